"""The settings of TRL, axolotl, LLaMA-Factory and DistillKit beside ours.

TRL 1.16 (gkd, distillation, sft), axolotl and DistillKit of 2026, LLaMA-Factory of 2025; all hand
most of the training on to the arguments of transformers.
"""

from tutelage.importing.rows import Row, Tool, without

_MEASURED = "measured otherwise here: see `evaluation` and `selection`"
_LAUNCHED = "said to the launcher here (torchrun, accelerate), or decided by itself"
_FAST = "decided by itself, or not needed: the loss is made tile by tile"
_LOGGED = "named by the run folder here; `training.report_to` says who else is told"
_KEPT = "a run goes on where it was by itself; `tutelage push` publishes"
_QUANTISED = "students and teachers have whole weights here"
_ADAPTERS = "adapters are plain LoRA here"

ARGUMENTS = (
    Row("learning_rate", "training.learning_rate", "number"),
    Row("lr_scheduler_type", "training.lr_schedule", "course"),
    Row("warmup_ratio", "training.warmup_ratio", "number"),
    Row("warmup_steps", "training.warmup_ratio", "warmup", "a share of the steps here"),
    Row("num_train_epochs", "curriculum.stages, curriculum.passes", "epochs"),
    Row("max_steps", "curriculum.total_steps", "steps"),
    Row("per_device_train_batch_size", "training.micro_batch_size", "micro"),
    Row(
        "gradient_accumulation_steps",
        "training.batch_size",
        "batch",
        "ours is of all devices together: multiply by their number",
    ),
    Row("weight_decay", "training.weight_decay", "number"),
    Row("max_grad_norm", "training.max_grad_norm", "number"),
    Row("adam_beta1", "training.adam_beta1", "number"),
    Row("adam_beta2", "training.adam_beta2", "number"),
    Row("bf16", "training.precision", "precision"),
    Row("gradient_checkpointing", "training.gradient_checkpointing"),
    Row("seed", "seed"),
    Row("logging_steps", "training.log_every", "count"),
    Row("save_steps", "training.checkpoint_every", "count"),
    Row("report_to", "training.report_to", "trackers"),
    Row("output_dir", "output", "same", "a folder of run folders here"),
    *without(_MEASURED, "eval_strategy", "evaluation_strategy", "eval_steps", "do_train",
             "do_eval", "per_device_eval_batch_size", "load_best_model_at_end",
             "metric_for_best_model", "plot_loss"),
    *without(_KEPT, "save_strategy", "save_total_limit", "save_only_model", "push_to_hub",
             "hub_model_id", "hub_strategy", "overwrite_output_dir", "resume_from_checkpoint"),
    *without(_LAUNCHED, "deepspeed", "fsdp", "fsdp_config", "ddp_timeout", "local_rank",
             "dataloader_num_workers", "preprocessing_num_workers", "ddp_find_unused_parameters"),
    *without(_FAST, "gradient_checkpointing_kwargs", "use_liger_kernel", "torch_compile", "tf32",
             "group_by_length", "remove_unused_columns", "attn_implementation", "packing"),
    *without(_LOGGED, "run_name", "logging_dir", "logging_first_step", "logging_strategy"),
    *without("AdamW is the optimizer here", "optim", "optimizer", "adam_epsilon"),
    *without("float16 needs a loss scale, which is not made here; use bf16", "fp16"),
)  # fmt: skip

LORA = (
    Row("lora_r", "training.lora.rank"),
    Row("lora_alpha", "training.lora.alpha", "count"),
    Row("lora_dropout", "training.lora.dropout", "number"),
    Row("lora_target_modules", "training.lora.target_modules", "modules"),
)

TRL = Tool(
    "trl",
    "TRL",
    (
        Row("model_name_or_path", "student.model"),
        Row("model_revision", "student.revision", "revision"),
        Row("dtype", "student.dtype", "dtype"),
        Row("torch_dtype", "student.dtype", "dtype"),
        Row("trust_remote_code", "student.trust_remote_code"),
        Row("teacher_model_name_or_path", "teacher.model"),
        Row("teacher_model_revision", "teacher.revision", "revision"),
        Row("dataset_name", "data.train"),
        Row("dataset_config", "data.train", "config", "written behind the name: name:config"),
        Row("dataset_train_split", "", "split", "the split `train` is read here"),
        Row("dataset_test_split", "", "split", "give data.test or data.test_share"),
        Row("max_length", "data.max_length, data.max_prompt_length", "lengths"),
        Row("beta", "loss.divergence", "beta", "0 forward KL, 1 reverse KL, between them JSD"),
        Row("lmbda", "on_policy.fraction", "number"),
        Row("temperature", "on_policy.sampling_temperature", "temperature",
            "of `DistillationTrainer` also loss.distill_temperature, with loss.tau2_scaling false"),
        Row("max_new_tokens", "on_policy.max_new_tokens"),
        Row("max_completion_length", "on_policy.max_new_tokens"),
        Row("top_p", "on_policy.top_p", "number"),
        Row("top_k", "on_policy.top_k"),
        Row("seq_kd", "extends", "seq_kd", "the recipe seqkd: the teacher's answers are learned"),
        Row("use_peft", "training.lora", "adapter"),
        *LORA,
        *ARGUMENTS,
        *without("generation is in this process, or by `engine`", "use_vllm", "vllm_mode",
                 "vllm_server_base_url", "vllm_gpu_memory_utilization",
                 "vllm_tensor_parallel_size", "vllm_max_model_length"),
        *without("see `student.dtype`, `teacher.dtype`", "model_init_kwargs",
                 "teacher_model_init_kwargs"),
        *without("dropout is the model's own", "disable_dropout"),
        *without("the answers alone are learned, of every turn in a chat", "completion_only_loss",
                 "assistant_only_loss"),
        *without(_LOGGED, "log_completions", "num_completions_to_print", "log_unique_prompts"),
        *without(_QUANTISED, "load_in_4bit", "load_in_8bit"),
    ),
)  # fmt: skip

AXOLOTL = Tool(
    "axolotl",
    "axolotl",
    (
        Row("base_model", "student.model"),
        Row("revision_of_model", "student.revision", "revision"),
        Row("trust_remote_code", "student.trust_remote_code"),
        Row("datasets", "data.train, data.template", "datasets", "where they come from"),
        Row("val_set_size", "data.validation_share", "share"),
        Row("sequence_len", "data.max_length, data.max_prompt_length", "lengths"),
        Row("kd_trainer", "extends", "switch", "the recipe kld; sft without it"),
        Row("kd_ce_alpha", "loss.ce_weight", "weights"),
        Row("kd_alpha", "loss.ce_weight", "weights", "both weights are made to add up to 1"),
        Row("kd_temperature", "loss.distill_temperature", "number"),
        Row("kd_beta", "loss.divergence", "beta", "0 forward KL, 1 reverse KL, between them JSD"),
        Row("kd_online_topk", "teacher.top_k, teacher.signal", "topk", "with a tail for the rest"),
        Row("kd_online_server_model", "teacher.model"),
        Row("micro_batch_size", "training.micro_batch_size", "micro"),
        Row("num_epochs", "curriculum.stages, curriculum.passes", "epochs"),
        Row("lr_scheduler", "training.lr_schedule", "course"),
        Row("adapter", "training.lora", "adapter"),
        *LORA,
        Row("lora_target_linear", "training.lora.target_modules", "linear"),
        *ARGUMENTS,
        *without("the teacher is loaded here: set teacher.model", "kd_online_server_base_url",
                 "kd_online_server", "kd_online_timeout", "kd_online_max_new_tokens"),
        *without("write loss.distill_temperature: {kind: cosine, ...}", "kd_temperature_min"),
        *without("the likeliest tokens come with a tail, so nothing is renormalised",
                 "kd_normalize_topk"),
        *without("the tokenizer's own chat template is used", "chat_template",
                 "tokenizer_config", "tokenizer_type", "model_type", "special_tokens", "tokens"),
        *without(_FAST, "sample_packing", "pad_to_sequence_len", "flash_attention",
                 "xformers_attention", "kd_compiled_kernel", "eval_sample_packing"),
        *without(_QUANTISED, "load_in_8bit", "load_in_4bit"),
        *without(_ADAPTERS, "lora_model_dir", "lora_fan_in_fan_out"),
        *without(_LOGGED, "wandb_project", "wandb_entity", "wandb_watch", "wandb_name",
                 "wandb_log_model", "debug"),
        *without(_MEASURED, "evals_per_epoch", "eval_table_size", "early_stopping_patience"),
        *without(_KEPT, "saves_per_epoch", "dataset_prepared_path"),
        *without("answers alone are learned", "train_on_inputs"),
        *without("of the tool itself", "plugins", "strict"),
        *without("`tutelage ls curricula`: an order that is measured and planned",
                 "curriculum_sampling"),
    ),
)  # fmt: skip

LLAMAFACTORY = Tool(
    "llamafactory",
    "LLaMA-Factory",
    (
        Row("model_name_or_path", "student.model"),
        Row("trust_remote_code", "student.trust_remote_code"),
        Row("dataset", "data.train", "sources", "give the file that dataset_info.json means"),
        Row("eval_dataset", "data.validation", "sources", "as for dataset"),
        Row("max_samples", "data.limit_train", "count"),
        Row("val_size", "data.validation_share", "share"),
        Row("cutoff_len", "data.max_length, data.max_prompt_length", "lengths"),
        Row("stage", "extends", "stage", "sft alone; add a teacher and extend kld to distil"),
        Row("finetuning_type", "training.lora", "adapter"),
        Row("lora_rank", "training.lora.rank"),
        Row("lora_alpha", "training.lora.alpha", "count"),
        Row("lora_dropout", "training.lora.dropout", "number"),
        Row("lora_target", "training.lora.target_modules", "modules"),
        *ARGUMENTS,
        *without("the tokenizer's own chat template is used: see data.template", "template",
                 "default_system", "enable_thinking"),
        *without("plans are shuffled by seed", "disable_shuffling"),
        *without(_KEPT, "overwrite_cache", "tokenized_path"),
        *without(_FAST, "flash_attn", "neat_packing", "enable_liger_kernel", "use_unsloth"),
        *without(_QUANTISED, "quantization_bit", "quantization_method"),
        *without(_ADAPTERS, "adapter_name_or_path", "use_dora", "use_rslora", "lora_target_all"),
        *without("`data.train` is the file itself", "dataset_dir", "media_dir"),
    ),
)  # fmt: skip

DISTILLKIT = Tool(
    "distillkit",
    "DistillKit",
    (
        Row("model", "student.model"),
        Row("trust_remote_code", "student.trust_remote_code"),
        Row("teacher.path", "teacher.model"),
        Row("teacher.model", "teacher.model"),
        Row("teacher.top_k", "teacher.top_k, teacher.signal", "topk", "with a tail for the rest"),
        Row("dataset.train_dataset.repo_id", "data.train"),
        Row("dataset.train_dataset.disk_path", "data.train"),
        Row("dataset.train_dataset.config_name", "data.train", "config"),
        Row("dataset.train_dataset.split", "", "split", "the split `train` is read here"),
        Row("dataset.eval_dataset.repo_id", "data.validation"),
        Row("dataset.eval_dataset.disk_path", "data.validation"),
        Row("dataset.eval_dataset.split", "", "split", "the split `validation` is read here"),
        Row("dataset.num_samples", "data.limit_train", "count"),
        Row("dataset.num_eval_samples", "data.limit_validation", "count"),
        Row("dataset.seed", "seeds.data"),
        Row("sequence_length", "data.max_length, data.max_prompt_length", "lengths"),
        Row("output_path", "output", "same", "a folder of run folders here"),
        Row("loss_functions", "loss.divergence, loss.ce_weight, loss.distill_temperature",
            "functions", "one divergence beside cross-entropy; both weights add up to 1"),
        *(Row(f"training_args.{row.key}", row.to, row.how, row.note) for row in ARGUMENTS),
        *without("see `student.dtype`, `teacher.dtype`", "model_kwargs", "teacher.kwargs"),
        *without("the teacher is loaded here, or its store is read: set teacher.model",
                 "teacher.kind", "teacher.base_url", "teacher.api_key", "teacher.timeout",
                 "teacher.max_retries", "teacher.legacy_logit_compression",
                 "teacher.logprob_compressor"),
        *without("loss.state_weight learns the last hidden states", "layer_mapping",
                 "force_hidden_state_projection"),
        *without(_FAST, "use_flash_attention", "functionary_packing", "dataset.prepacked"),
        *without(_LOGGED, "project_name"),
        *without(_KEPT, "dataset.prepared_dataset_path"),
        *without("all weights are trained, or LoRA adapters", "frozen_modules", "frozen_res"),
        *without("of the model's own files", "resize_embeddings_to_multiple_of",
                 "model_auto_class", "dataset.eos_label_token_ids"),
    ),
)  # fmt: skip

TOOLS = {tool.name: tool for tool in (TRL, AXOLOTL, LLAMAFACTORY, DISTILLKIT)}
"""All tools, by name."""

ALIKE = {
    "lr_scheduler_type": "linear",
    "weight_decay": 0.0,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "learning_rate": 5e-5,
}
"""What the arguments of transformers are where a file is silent, and ours would be others."""

_TRL = {**ALIKE, "max_length": 1024}
DEFAULTS: dict[str, dict[str, object]] = {
    "trl sft": {**_TRL, "learning_rate": 2e-5},
    "trl gkd": {
        **_TRL, "learning_rate": 2e-5, "beta": 0.5, "lmbda": 0.5, "temperature": 0.9,
        "max_new_tokens": 128,
    },
    "trl distillation": {
        **ALIKE, "learning_rate": 1e-6, "beta": 1.0, "temperature": 1.0,
        "max_completion_length": 512,
    },
    "axolotl": {"weight_decay": 0.0, "lr_scheduler": "cosine", "gradient_accumulation_steps": 1},
    "axolotl kd": {
        "weight_decay": 0.0, "lr_scheduler": "cosine", "gradient_accumulation_steps": 1,
        "kd_alpha": 1.0, "kd_ce_alpha": 0.0,
    },
    "llamafactory": {**ALIKE, "cutoff_len": 2048},
    "distillkit": {
        **{f"training_args.{key}": value for key, value in ALIKE.items()},
        "loss_functions": [
            {"function": "cross_entropy", "weight": 0.5},
            {"function": "kl", "weight": 0.5, "temperature": 1.0},
        ],
    },
}  # fmt: skip
"""By tool (and trainer) what it takes where a file is silent."""
