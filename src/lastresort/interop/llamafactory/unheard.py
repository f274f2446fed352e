"""The keys that LLaMA-Factory has and that are not honoured here: each is refused, or named with the reason.

Refused is what would let another training come out under the same name: another method, loss or model. Not honoured is a
detail of the optimizer, of evaluation or of loading. What decides speed, memory, logs and files alone is of no result.
"""

from __future__ import annotations

from typing import Any

from lastresort.interop.given import ForeignKeys
from lastresort.spec.values import listed, nearest
from lastresort.types import JsonObject

REFUSED = {
    "use_galore": "AdamW",
    "use_apollo": "AdamW",
    "use_badam": "AdamW",
    "use_adam_mini": "AdamW",
    "use_muon": "AdamW",
    "pissa_init": "an adapter that begins at zero",
    "use_llama_pro": "finetuning_type: lora or full",
    "additional_target": "an adapter without whole layers beside it",
    "train_from_scratch": "weights to go on from",
    "mixture_of_depths": "the model as it is",
    "shift_attn": "full attention",
    "rope_scaling": "the positions that the model's config.json says",
    "resize_vocab": "the tokens that the model has",
    "add_tokens": "the tokens that the model has",
    "add_special_tokens": "the tokens that the model has",
    "new_special_tokens_config": "the tokens that the model has",
    "use_dft_loss": "the likelihood as the loss",
    "use_asft_loss": "the likelihood as the loss",
    "use_eaft_loss": "the likelihood as the loss",
    "label_smoothing_factor": "the likelihood as the loss",
    "neftune_noise_alpha": "embeddings without noise",
    "ref_model": "none, since the reference is the model as it starts",
    "ref_model_adapters": "none, since the reference is the model as it starts",
    "tokenized_path": "the rows themselves, in dataset",
    "reward_model": "stage: ppo, which there is not here",
}
# Of no result there: here the program decides it itself.
_OWN = frozenset(
    """save_strategy save_steps save_total_limit save_only_model save_on_each_node save_safetensors
    overwrite_cache enable_jit_checkpoint restore_callback_states_from_checkpoint ignore_data_skip resume_from_checkpoint
    logging_steps logging_strategy logging_first_step logging_dir logging_nan_inf_filter log_on_each_node log_level
    log_level_replica disable_tqdm plot_loss run_name project trackio_space_id trackio_bucket_id trackio_static_space_id
    include_num_input_tokens_seen include_tokens_per_second include_effective_tokens_per_second print_param_status debug
    swanlab_project swanlab_workspace swanlab_run_name swanlab_mode swanlab_api_key swanlab_logdir swanlab_lark_webhook_url
    swanlab_lark_secret hf_hub_token ms_hub_token om_hub_token cache_dir use_fast_tokenizer
    eval_steps eval_delay per_device_eval_batch_size eval_accumulation_steps eval_do_concat_batches eval_use_gather_object
    prediction_loss_only bf16_full_eval fp16_full_eval
    preprocessing_num_workers preprocessing_batch_size dataloader_num_workers dataloader_pin_memory
    dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order
    streaming buffer_size data_shared_file_system remove_unused_columns label_names ignore_pad_token_for_loss group_by_length
    length_column_name media_dir auto_find_batch_size
    flash_attn use_unsloth use_unsloth_gc enable_liger_kernel use_liger_kernel liger_kernel_config use_reentrant_gc
    gradient_checkpointing_kwargs activation_checkpointing activation_checkpointing_kwargs upcast_layernorm
    upcast_lmhead_output low_cpu_mem_usage use_kv_cache use_cache use_v1_kernels offload_folder quantization_device_map
    torch_compile torch_compile_backend torch_compile_mode tf32 torch_empty_cache_steps use_cpu enable_torch_profiler
    profile_modules skip_memory_metrics full_determinism infer_backend infer_dtype
    deepspeed fsdp fsdp_config ddp_timeout ddp_backend ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers
    ddp_static_graph local_rank accelerator_config parallelism_config average_tokens_across_devices use_mca
    use_hyper_parallel hyper_parallel_args use_kt ray_num_workers ray_init_kwargs master_addr master_port ray_run_name
    ray_storage_path resources_per_worker placement_strategy tensor_model_parallel_size pipeline_model_parallel_size
    expert_model_parallel_size context_parallel_size sequence_parallel virtual_pipeline_model_parallel_size
    use_distributed_optimizer overlap_param_gather overlap_grad_reduce bias_activation_fusion apply_rope_fusion
    recompute_granularity moe_grouped_gemm moe_token_dispatcher_type""".split()
)
_GROUPS = {
    "a run goes to its end, and what it ends with is saved": (
        "load_best_model_at_end metric_for_best_model greater_is_better early_stopping_steps"
    ),
    "there is no such tracker": "use_swanlab",
    "what is held out is measured by its loss, at the end of each epoch, all together": (
        "eval_on_start eval_on_each_dataset eval_num_beams compute_accuracy do_predict predict_with_generate "
        "include_for_metrics batch_eval_metrics generation_max_length generation_num_beams generation_config do_sample "
        "temperature top_p top_k num_beams max_length max_new_tokens repetition_penalty length_penalty "
        "skip_special_tokens sortish_sampler"
    ),
    "every row is drawn once an epoch, in an order of the seed": (
        "disable_shuffling data_seed train_sampling_strategy dataloader_drop_last"
    ),
    "bases are held in 32, 16 or 4 bits, and nothing is added to the loss": (
        "fp8 fp8_backend fp8_enable_fsdp_float8_all_gather moe_aux_loss_coef"
    ),
    "AdamW has betas of 0.9 and 0.999 and an epsilon of 1e-8, and schedules have no options": (
        "adam_beta1 adam_beta2 adam_epsilon optim_args optim_target_modules lr_scheduler_kwargs"
    ),
    "a model comes in its main version, with its tokenizer as it is": (
        "model_revision split_special_tokens init_special_tokens adapter_folder"
    ),
    "nothing is sent to a hub, and nothing exported while it trains": (
        "push_to_hub hub_model_id hub_token hub_private_repo hub_strategy hub_always_push hub_revision export_dir export_size "
        "export_device export_quantization_bit export_quantization_dataset export_legacy_format export_hub_model_id"
    ),
    "only text is trained": (
        "freeze_vision_tower freeze_multi_modal_projector freeze_language_model image_max_pixels image_min_pixels "
        "image_do_pan_and_scan crop_to_patches video_max_pixels video_min_pixels video_fps video_maxlen "
        "use_audio_in_video audio_sampling_rate"
    ),
}
# Whole families of which a file may hold any: they belong to what is refused or switched off elsewhere.
_FAMILIES = {
    "pref_": "stage: dpo or kto",
    "dpo_": "stage: dpo",
    "simpo_": "stage: dpo",
    "kto_": "stage: kto",
    "ld_alpha": "stage: dpo",
    "ref_model_": "another reference model",
    "loraplus_lr_embedding": "adapters of embeddings",
    "pissa_": "PiSSA",
    "asft_": "another loss",
    "eaft_": "another loss",
    "module_dropout": "finetuning_type: oft",
    "ppo_": "PPO",
    "reward_model_": "PPO",
    "galore_": "GaLore",
    "apollo_": "APOLLO",
    "badam_": "BAdam",
    "vllm_": "serving",
    "sglang_": "serving",
    "freeze_trainable_": "finetuning_type: freeze",
    "freeze_extra_": "finetuning_type: freeze",
    "oft_": "finetuning_type: oft",
    "export_quantization_": "exporting",
}
_OWN_FAMILIES = ("kt_", "profiler_", "fsdp_", "ray_", "ddp_")
_OFF = (False, "", "none", "no", "auto", "default")
_DEFAULTS: JsonObject = {
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "loraplus_lr_embedding": 1e-6,
    "model_revision": "main",
    "use_reentrant_gc": True,
    "use_fast_tokenizer": True,
    "ignore_pad_token_for_loss": True,
    "ddp_timeout": 1800,
}


def refuse_other_trainings(given: ForeignKeys) -> None:
    """Raises TaskError for a key under which another training would come out."""
    for key, expected in REFUSED.items():
        value = given.any(key)
        if key.startswith("ref_model") and names_its_start_as_reference(given):
            continue
        if value is not None and value not in _OFF and value != 0:
            given.refuse(
                key, f"{key}: {str(value).lower()}", expected=expected, remedy="Remove it, or train with LLaMA-Factory."
            )


def names_its_start_as_reference(given: ForeignKeys) -> bool:
    """Whether the reference is the model with the very adapter that is trained further, as it is here anyway."""
    start, reference = given.any("adapter_name_or_path"), given.any("ref_model_adapters")
    return reference is not None and (given.any("ref_model"), reference) == (given.any("model_name_or_path"), start)


def name_the_rest(given: ForeignKeys) -> None:
    """A remark on whatever was not read: one on the keys of no result, one for each other group, one for each unknown key.

    Raises TaskError for a key that is nearly one that is honoured.
    """
    unread = {key: value for key, value in given.unread().items() if not _is_off(key, value)}
    _name_own(given, [key for key in unread if key in _OWN or key.startswith(_OWN_FAMILIES)])
    unread = {key: value for key, value in unread.items() if key not in _OWN and not key.startswith(_OWN_FAMILIES)}
    for reason, names in _GROUPS.items():
        found = [key for key in unread if key in names.split()]
        if found:
            given.remark(
                ", ".join(found),
                "ignored",
                f"{listed(found)} {'is' if len(found) == 1 else 'are'} not honoured: {reason}.",
            )
        for key in found:
            del unread[key]
    for key in list(unread):
        family = next((whose for prefix, whose in _FAMILIES.items() if key.startswith(prefix)), None)
        if family is not None:
            given.remark(key, "ignored", f"{key} is not honoured: it belongs to {family}, which this training has not.")
            del unread[key]
    for key in unread:
        _refuse_misspelt(given, key)
        given.remark(key, "ignored", f"{key} is not honoured: it is no key that this program knows.")


def _name_own(given: ForeignKeys, keys: list[str]) -> None:
    if keys:
        change = "change" if len(keys) > 1 else "changes"
        sentence = f"{listed(keys, most=len(keys))} {change} no result there; how that is done, the program decides itself here."
        given.remark(", ".join(keys), "differs", sentence)


def _is_off(key: str, value: Any) -> bool:
    if key in _DEFAULTS:
        return bool(value == _DEFAULTS[key])
    return value is False or (isinstance(value, str) and value.strip().lower() in _OFF)


def _refuse_misspelt(given: ForeignKeys, key: str) -> None:
    meant = nearest(key, given.asked(), likeness=0.85)
    if meant is not None:
        given.refuse(key, "an unknown key", expected=listed([meant]), remedy=f'Write "{meant}", or remove the key.')
