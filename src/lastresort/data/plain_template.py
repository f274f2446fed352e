"""The template of a model that has none: base models, and chat models whose files lost it.

Plain words, a line break before each answer and the model's end-of-text token after it. Headings end in a line break
and not in a space, since "Answer: " followed by "yes" is other tokens than "Answer:" followed by " yes".
`start` is the begin-of-text token where the tokenizer puts one before every text, else empty.
"""

PLAIN_NAME = "lastresort-plain-1"

PLAIN_TEMPLATE = (
    "{{ start }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ '### Answer:\\n' + message['content'] + eos_token }}"
    "{% if not loop.last %}{{ '\\n\\n' }}{% endif %}"
    "{% elif message['role'] == 'tool' %}{{ '### Result:\\n' + message['content'] + '\\n\\n' }}"
    "{% else %}{{ '### Question:\\n' + message['content'] + '\\n\\n' }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Answer:\\n' }}{% endif %}"
)
