"""A file of Axolotl's as people have it: QLoRA with DPO on pairs in ChatML, of a model that is replaced from outside."""

FILE = """
base_model: meta-llama/Meta-Llama-3-8B-Instruct
model_type: LlamaForCausalLM
tokenizer_type: AutoTokenizer
load_in_4bit: true
adapter: qlora
lora_r: 16
lora_alpha: 32
lora_target_modules: [q_proj, k_proj, v_proj, o_proj]
datasets:
  - path: my_preference_dataset.jsonl
    type: chatml.intel
rl: dpo
learning_rate: 5e-5
num_epochs: 3
"""
