"""Chat templates of reasoning models, in the structure of the published ones, without their tools.

What differs between them: what the generation prompt opens, whether an answer without thoughts gets
an empty block of them, and whose thoughts are dropped.
"""

_LAST_USER = (
    "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
)
_SPLIT = (
    "{%- set content = m.content %}{%- set thoughts = '' %}"
    "{%- if m.reasoning_content is string %}{%- set thoughts = m.reasoning_content %}"
    "{%- elif '</think>' in content %}"
    "{%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1]"
    ".lstrip('\\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
)
_OFF = "enable_thinking is defined and enable_thinking is false"


def _qwen(answer: str, generation: str) -> str:
    return (
        _LAST_USER + "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}"
        "{%- if m.role == 'assistant' %}" + _SPLIT + answer + "{%- else %}{{- m.content }}"
        "{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
        + generation
        + "{%- endif %}"
    )


_QWEN_ANSWER = (
    "{%- if loop.index0 > ns.last and (loop.last or thoughts) %}"
    "{{- '<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}"
    "{%- else %}{{- content }}{%- endif %}"
)
QWEN3 = _qwen(
    _QWEN_ANSWER, "{%- if " + _OFF + " %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
)
QWEN3_THINKING = _qwen(_QWEN_ANSWER, "{{- '<think>\\n' }}")
QWQ = _qwen("{{- m.content if loop.last else content }}", "{{- '<think>\\n' }}")
MINIMAX = _qwen(
    "{%- if thoughts and loop.index0 > ns.last %}"
    "{{- '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}{%- endif %}{{- content }}",
    "{{- '<think>\\n' }}",
)
R1_DISTILL = (
    "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{{- '<|User|>' + m.content }}{%- else %}{%- set content = m.content %}"
    "{%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}"
    "{{- '<|Assistant|>' + content + '<|eos|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|Assistant|><think>\\n' }}{%- endif %}"
)
DEEPSEEK_V31 = (
    "{%- if thinking is not defined %}{%- set thinking = false %}{%- endif %}"
    "{{- bos_token }}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{{- '<|User|>' + m.content }}{%- else %}{%- set content = m.content %}"
    "{%- if '</think>' in content %}{%- set content = content.split('</think>', 1)[1] %}"
    "{%- endif %}{{- '<|Assistant|></think>' + content + '<|eos|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|Assistant|>' + ('<think>' if thinking else '</think>') }}{%- endif %}"
)
NEMOTRON = (
    "{%- set ns = namespace(on=true) %}{%- for m in messages %}"
    "{%- if m.role == 'system' and '/no_think' in m.content %}{%- set ns.on = false %}{%- endif %}"
    "{%- set content = m.content %}{%- if m.role == 'assistant' and '</think>' in content %}"
    "{%- set content = content.split('</think>')[-1].lstrip() %}{%- endif %}"
    "{{- '<|start|>' + m.role + '\\n\\n' + content + '<|eot|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start|>assistant\\n\\n' }}"
    "{%- if not ns.on %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
)
GLM45 = (
    _LAST_USER + "{{- '[gMASK]<sop>' }}{%- for m in messages %}{{- '<|' + m.role + '|>\\n' }}"
    "{%- if m.role == 'assistant' %}" + _SPLIT + "{%- if thoughts and loop.index0 > ns.last %}"
    "{{- '<think>' + thoughts.strip() + '</think>\\n' }}{%- else %}{{- '<think></think>\\n' }}"
    "{%- endif %}{{- content.strip() }}{%- else %}{{- m.content }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>' }}"
    "{%- if " + _OFF + " %}{{- '\\n<think></think>' }}{%- endif %}{%- endif %}"
)
