"""Every key of Axolotl's file that this program knows: which are honoured, which decide nothing here, which are not honoured and
why. docs/neighbours.md shows these tables.

What is said of the keys that no reader asked for.

Values that exclude each other there, and so here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lastresort.interop.given import NO_REMOTE_CODE, ForeignKeys
from lastresort.interop.imported import ImportRemark
from lastresort.spec.values import nearest

HONOURED = tuple(
    """base_model datasets pretraining_dataset test_datasets val_set_size rl rl_beta dpo_beta dpo_loss_type dpo_label_smoothing
    simpo_gamma orpo_alpha kto_desirable_weight kto_undesirable_weight trl adapter load_in_4bit load_in_8bit lora_model_dir lora_r
    lora_alpha lora_dropout lora_target_modules lora_target_linear peft_use_dora peft_use_rslora rl_adapter_ref_model chat_template
    chat_template_kwargs sequence_len excess_length_strategy train_on_inputs sample_packing micro_batch_size batch_size
    gradient_accumulation_steps num_epochs max_steps learning_rate lr_scheduler warmup_steps warmup_ratio weight_decay max_grad_norm
    optimizer bf16 bfloat16 fp16 float16 float32 gradient_checkpointing seed output_dir use_wandb use_mlflow use_tensorboard
    use_trackio trust_remote_code eot_tokens eval_strategy evaluation_strategy eval_steps evals_per_epoch
    loraplus_lr_ratio""".split()
)
TRL_HONOURED = tuple(
    """beta reward_funcs reward_weights num_generations max_completion_length loss_type epsilon epsilon_high temperature top_p top_k
    scale_rewards chat_template_kwargs num_iterations generation_batch_size""".split()
)


def _named(**groups: str) -> dict[str, tuple[str, ...]]:
    return {reason.replace("_", " "): tuple(names.split()) for reason, names in groups.items()}


OWN: Mapping[str, tuple[str, ...]] = _named(
    how_attention_and_layers_are_computed="""flash_attention xformers_attention sdp_attention flex_attention
    flex_attn_compile_kwargs eager_attention sage_attention attn_implementation flash_attn_cross_entropy flash_attn_fuse_mlp
    flash_attn_fuse_qkv flash_optimum flash_attn_d512 sdpa_varlen fused_attn_kernel large_head_attention gemma4_hybrid_attn_impl
    lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel chunked_cross_entropy chunked_cross_entropy_num_chunks
    cut_cross_entropy tiled_mlp tiled_mlp_num_shards tiled_mlp_use_original_mlp torch_compile torch_compile_backend
    torch_compile_mode torch_compile_options use_kernels experts_implementation tf32 liger_rope liger_rms_norm liger_layer_norm
    liger_rms_norm_gated use_scattermoe use_sonicmoe liger_glu_activation liger_cross_entropy liger_fused_linear_cross_entropy
    liger_use_token_scaling dpo_use_liger_kernel
    gradient_checkpointing_kwargs selective_checkpointing activation_offloading layer_offloading ple_cpu_offload""",
    how_rows_are_packed_and_padded="""pad_to_sequence_len pad_to_multiple_of sample_packing_group_size sample_packing_bin_size
    sample_packing_sequentially sample_packing_mp_start_method sample_packing_eff_est eval_sample_packing group_by_length
    multipack_real_batches batch_flattening dpo_padding_free auto_find_batch_size eval_batch_size streaming
    streaming_multipack_buffer_size pretrain_multipack_buffer_size pretrain_multipack_attn pretraining_sample_concatenation""",
    how_data_are_kept_and_read="""dataset_prepared_path dataset_processes dataset_num_proc dataset_keep_in_memory
    skip_prepare_dataset num_dataset_shards_to_save dataloader_pin_memory dataloader_num_workers dataloader_prefetch_factor
    dataloader_drop_last preprocess_iterable is_preprocess hf_use_auth_token precompute_ref_log_probs total_num_tokens
    total_supervised_tokens shuffle_before_merging_datasets remove_unused_columns""",
    when_and_what_is_logged="""logging_steps wandb_project wandb_entity wandb_name wandb_run_id wandb_mode wandb_watch
    wandb_log_model mlflow_tracking_uri mlflow_experiment_name mlflow_run_name hf_mlflow_log_artifacts comet_api_key
    swanlab_project swanlab_experiment_name swanlab_description swanlab_mode swanlab_workspace comet_workspace
    comet_project_name comet_experiment_key comet_mode comet_online comet_experiment_config trackio_project_name
    trackio_run_name trackio_space_id use_otel_metrics otel_metrics_host otel_metrics_port profiler_steps profiler_steps_start
    include_tokens_per_second include_tkps debug strict axolotl_config_path gradio_title gradio_share gradio_server_name
    gradio_server_port gradio_max_new_tokens gradio_temperature""",
    when_and_how_is_saved="""save_strategy save_steps saves_per_epoch save_total_limit save_first_step save_only_model
    save_safetensors resume_from_checkpoint auto_resume_from_checkpoints tokenizer_save_jinja_files merge_lora merge_method""",
    how_devices_share_the_work="""device device_map world_size local_rank ddp ddp_timeout ddp_bucket_cap_mb ddp_broadcast_buffers
    ddp_find_unused_parameters deepspeed deepcompile fsdp fsdp_config fsdp_version fsdp_final_state_dict_type max_memory
    gpu_memory_limit low_cpu_mem_usage lora_on_cpu qlora_sharded_model_loading tensor_parallel_size dp_shard_size
    dp_replicate_size sequence_parallel_degree context_parallel_size heads_k_stride ring_attn_func accelerator_config gc_steps
    gc_collect_steps torch_empty_cache_steps use_ray ray_run_name ray_num_workers resources_per_worker
    experimental_skip_move_to_device expert_parallel_size""",
    which_classes_load_the_model="""model_type type_of_model tokenizer_type processor_type tokenizer_use_fast tokenizer_legacy
    is_falcon_derived_model is_llama_derived_model is_mistral_derived_model is_qwen_derived_model""",
)
"""Of no result: here the program decides it itself."""

IGNORED: Mapping[str, tuple[str, ...]] = {
    "model, configuration and tokenizer are those of base_model": tuple(
        """base_model_config cls_model_config tokenizer_config tokenizer_use_mistral_common model_revision revision_of_model
        model_config overrides_of_model_config model_kwargs overrides_of_model_kwargs processor_kwargs
        model_quantization_config model_quantization_config_kwargs use_onebitllms llama4_linearized_experts rope_scaling
        image_size image_resize_algorithm role_boundaries freeze_mm_modules""".split()
    ),
    "tokens are not added, and their meaning stays as the model has it": tuple(
        """special_tokens tokens added_tokens_overrides resize_token_embeddings_to_32x mean_resizing_embeddings
        shrink_embeddings embeddings_skip_upcast reinit_weights fix_untrained_tokens""".split()
    ),
    "the chat template is the model's own, ChatML or Llama 3": ("chat_template_jinja", "default_system_message"),
    "an adapter is trained on whole layers of one rank, from PEFT's usual start": tuple(
        """lora_modules_to_save lora_target_parameters lora_rank_pattern lora_alpha_pattern lora_fan_in_fan_out
        peft_layers_to_transform peft_layers_pattern peft_layer_replication peft_init_lora_weights peft
        peft_trainable_token_indices peft_ensure_weight_tying peft_autocast_adapter_dtype loraplus_lr_embedding
        gptq bnb_config_kwargs unfrozen_parameters quantize_moe_experts""".split()
    ),
    "there are no restarts of adapters and no changing choice of layers": tuple(
        """relora relora_steps relora_warmup_steps relora_prune_ratio relora_prune_method relora_cpu_offload jagged_restart_steps
        jagged_restart_warmup_steps jagged_restart_anneal_steps lisa_n_layers lisa_step_interval lisa_layers_attribute""".split()
    ),
    "AdamW has its usual constants, and the schedule falls to 0": tuple(
        """adam_beta1 adam_beta2 adam_beta3 adam_epsilon adam_epsilon2 optim_args optim_target_modules lr_scheduler_kwargs
        lr_quadratic_warmup cosine_min_lr_ratio cosine_constant_lr_ratio lr_div_factor lr_groups embedding_lr
        embedding_lr_scale torchdistx_path dion_lr dion_momentum dion_rank_fraction dion_rank_multiple_of qgalore_rank
        qgalore_update_proj_gap qgalore_scale qgalore_proj_type qgalore_proj_quant qgalore_proj_bits
        qgalore_proj_group_size qgalore_cos_threshold qgalore_gamma_proj qgalore_queue_size""".split()
    ),
    "a run goes to its end, and what it ends with is saved": tuple(
        """early_stopping_patience load_best_model_at_end metric_for_best_model greater_is_better loss_watchdog_threshold
        loss_watchdog_patience dynamic_checkpoint""".split()
    ),
    "nothing is sent to the Hub": ("hub_model_id", "hub_strategy", "hub_revision", "push_dataset_to_hub"),
    "rows are drawn in an order of their own, each once an epoch": tuple(
        """curriculum_sampling shuffle_merged_datasets dataset_exact_deduplication dataset_shard_num dataset_shard_idx
        min_sample_len eval_sequence_len max_prompt_len max_packed_sequence_len""".split()
    ),
    "nothing is added to the loss or the weights": tuple(
        """neftune_noise_alpha noisy_embedding_alpha dpo_use_weighting dpo_loss_weights cpo_alpha use_eaft eaft_alpha eaft_k
        center_rewards_coefficient scaling_softmax scaling_softmax_factor scaling_softmax_bias use_pose
        pose_split_on_token_ids pose_max_context_len pose_num_chunks fp32_norms fp32_norm_classes""".split()
    ),
    "what is held out is measured by its loss": tuple(
        """do_causal_lm_eval eval_causal_lm_metrics do_bench_eval bench_dataset bench_split eval_table_size eval_max_new_tokens
        generate_samples num_generation_samples generation_max_new_tokens generation_temperature generation_top_p
        generation_top_k generation_prompt_ratio generation_do_sample""".split()
    ),
    "bases are held in 32, 16 or 4 bits": (
        "qat",
        "quantization",
        "fp8",
        "fp8_config",
        "fp8_enable_fsdp_float8_all_gather",
    ),
    "there is no such tracker": ("use_comet", "use_swanlab"),
    "plugins are not loaded": ("plugins", "trainer_cls"),
    "groups are sampled by the engine": ("vllm",),
    "the objective is not here": ("ebft", "num_labels"),
}
"""Not honoured, by the reason."""

TRL_OWN = tuple(
    """use_vllm vllm_mode vllm_server_host vllm_server_port vllm_server_timeout vllm_enable_sleep_mode vllm_lora_sync
    vllm_sync_interval vllm_importance_sampling_correction vllm_importance_sampling_mode vllm_importance_sampling_cap
    vllm_importance_sampling_clip_min vllm_importance_sampling_clip_max log_completions num_completions_to_print log_multimodal
    use_liger_loss use_data_producer async_prefetch prefetch_depth reward_num_workers""".split()
)
TRL_IGNORED = tuple(
    """vllm_guided_decoding_regex importance_sampling_level sync_ref_model ref_model_mixup_alpha ref_model_sync_steps min_p
    repetition_penalty generation_kwargs mask_truncated_completions entropy_coef use_adaptive_entropy entropy_target
    entropy_coef_delta entropy_coef_min entropy_coef_max rollout_func multi_objective_aggregation streaming_partial_batch
    streaming_min_groups off_policy_mask_threshold use_bias_correction_kl replay_buffer_size replay_recompute_logps
    reroll_start_fraction reroll_max_groups skip_zero_advantage_batches reward_processing_classes""".split()
)
REFUSED = {
    "reward_model": "a reward model is not trained here; rl: dpo or kto learn from the same preferences",
    "process_reward_model": "a process reward model is not trained here",
    "dpo_use_logits_to_keep": "it is gone there too",
    "dpo_generate_during_eval": "it is gone there too",
    "dpo_norm_loss": "it is gone there too",
    "rpo_alpha": "it is gone there too",
    "s2_attention": "it is gone there too",
    "flash_attn_rms_norm": "it is gone there too",
    **{f"unsloth_{name}": "it is gone there too" for name in ("cross_entropy_loss", "lora_mlp", "lora_qkv", "lora_o")},
    "unsloth_rms_norm": "it is gone there too",
    "unsloth_rope": "it is gone there too",
}
USUAL: dict[str, object] = {
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "chat_template": "tokenizer_default",
}
USUAL |= {"loraplus_lr_embedding": 1e-6, "repetition_penalty": 1.0, "importance_sampling_level": "token"}
"""Values that say what happens here anyway."""


def known() -> tuple[str, ...]:
    groups = (*OWN.values(), *IGNORED.values())
    return tuple(dict.fromkeys((*HONOURED, *(name for group in groups for name in group), *REFUSED)))


_FAST_PLUGINS = ("liger.", "cut_cross_entropy.", "kernels.")
_DIFFERS = {
    "chat_template": "No row is rendered by chat_template; there it is saved with the tokenizer, here the model keeps its own.",
    "trust_remote_code": NO_REMOTE_CODE,
    "eot_tokens": "The token with which the template ends a turn is trained, whatever eot_tokens names.",
}


def of_other_keys(given: ForeignKeys) -> list[ImportRemark]:
    """Keys of no result in one remark, the others one by one; what is switched off, or says what happens anyway, in none."""
    unread = given.unread()
    own = {key for names in OWN.values() for key in names} | (
        {"plugins"} if _of_speed(unread.get("plugins")) else set()
    )
    told = [key for key in unread if key in own]
    sentence = f"{', '.join(told)}: of no result there; how that is done, the program decides itself here."
    found = [ImportRemark(", ".join(told), "differs", sentence)] if told else []
    return found + [
        _remark(key) for key, value in unread.items() if key not in {*own, *REFUSED} and not _idle(key, value)
    ]


def _remark(key: str) -> ImportRemark:
    if key in _DIFFERS:
        return ImportRemark(key, "differs", _DIFFERS[key])
    if key in HONOURED:
        return ImportRemark(key, "ignored", f"{key} decides nothing beside the other keys.")
    for reason, names in IGNORED.items():
        if key in names:
            return ImportRemark(key, "ignored", f"{key} is not honoured: {reason}.")
    close = nearest(key, HONOURED) or nearest(key, known())
    meant = f"; did you mean {close}?" if close else "."
    return ImportRemark(key, "ignored", f"{key} is no key that this program knows{meant}")


def _of_speed(plugins: Any) -> bool:
    """Whether all plugins only compute the same in another way."""
    names = plugins if isinstance(plugins, list) else [plugins]
    return all(any(part in str(name) for part in _FAST_PLUGINS) for name in names)


def _idle(key: str, value: Any) -> bool:
    """Off, or what happens anyway. Special tokens that only fill count so, since there is no padding here."""
    if key == "shuffle_merged_datasets":
        return value is not False
    if key == "special_tokens" and isinstance(value, Mapping):
        return set(value) <= {"pad_token"}
    return value in (False, 0, "", [], {}) or value == USUAL.get(key)


_EXCLUDE: tuple[tuple[str, str], ...] = (
    ("warmup_steps", "warmup_ratio"),
    ("saves_per_epoch", "save_steps"),
    ("evals_per_epoch", "eval_steps"),
    ("test_datasets", "val_set_size"),
    ("lr_groups", "loraplus_lr_ratio"),
    ("noisy_embedding_alpha", "neftune_noise_alpha"),
)


def check(given: ForeignKeys) -> None:
    """Raises TaskError for the first that is found."""
    rl = given.text("rl")
    for one, other in _EXCLUDE:
        if _set(given, one) and _set(given, other):
            given.refuse(one, f"it beside {other}", expected="one of them", remedy="Remove one.")
    if rl and given.flag("sample_packing"):
        remedy = "Remove sample_packing; rows are packed here anyway, without a change of results."
        given.refuse("sample_packing", f"true beside rl: {rl}", expected="false", remedy=remedy)
    if rl == "kto" and given.any("remove_unused_columns") is not False:
        remedy = "Write remove_unused_columns: false, which kto needs there."
        given.refuse("remove_unused_columns", "no false beside rl: kto", expected="false", remedy=remedy)
    if rl == "simpo" and _set(given, "warmup_ratio"):
        given.refuse("warmup_ratio", "it beside rl: simpo", expected="warmup_steps", remedy="Write warmup_steps.")
    if rl != "dpo" and "dpo_loss_type" in given:
        given.refuse("dpo_loss_type", f"it beside rl: {rl or 'none'}", expected="it with rl: dpo", remedy="Remove it.")
    _check_evaluation(given)
    for key, steps in (("save_strategy", "save_steps"), ("eval_strategy", "eval_steps")):
        strategy = given.any(key)
        if strategy is not None and _set(given, steps) and strategy != "steps":
            given.refuse(key, f"{strategy} beside {steps}", expected="steps", remedy=f"Remove {steps}, or write steps.")


def _check_evaluation(given: ForeignKeys) -> None:
    asked = [key for key in ("eval_steps", "eval_strategy") if _set(given, key)]
    none_held_out = given.any("val_set_size") in (0, 0.0) and not given.any("test_datasets")
    if asked and none_held_out and given.any("eval_strategy") not in ("no", False):
        remedy = "Remove it, or hold rows out."
        given.refuse(asked[0], "it beside val_set_size: 0", expected="rows that are held out", remedy=remedy)


def _set(given: ForeignKeys, key: str) -> bool:
    return given.any(key) not in (None, 0, 0.0, False, "", [])
