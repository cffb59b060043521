"""What the goldens are made from: pieces of text that Debian and Python ship, and short prompts."""

import inspect
import textwrap
from pathlib import Path

LICENCES = Path("/usr/share/common-licenses")
CHAT = "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n" \
       "<|im_start|>assistant\n"
HELPER = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def chat(user, system=HELPER):
    return CHAT.format(system=system, user=user)


def texts():
    """Prose, a conversation about a document, program code; each longer than is used."""
    gpl = (LICENCES / "GPL-3").read_text()
    artistic = (LICENCES / "Artistic").read_text()
    question = "Document:\n" + artistic + "\nQuestion: What may I do with the package?"
    return [gpl[gpl.index("TERMS AND CONDITIONS"):], chat(question), inspect.getsource(textwrap)]


def short_prompts():
    return [
        "The capital of France is",
        "Once upon a time, in a small village by the sea,",
        "def fibonacci(n):\n    ",
        "Water boils at",
        "1, 2, 3, 5, 8, 13,",
        "To be, or not to be,",
        "#include <stdio.h>\n\nint main(void) {\n",
        "The three primary colours are",
        "Der schnelle braune Fuchs",
        "| Planet | Moons |\n|---|---|\n| Mars | 2 |\n",
        "a",
        "In 1969, two astronauts",
        chat("What is the capital of Norway?"),
        chat("Write a haiku about rain."),
        chat("Explain photosynthesis in one sentence."),
        chat("List three fruits."),
        chat("What is 17 + 25?"),
        chat("Translate 'good morning' to Spanish.", "You are a translator."),
        chat("Give me a short recipe for pancakes."),
        chat("Who wrote Romeo and Juliet?", "Answer in one word."),
    ]
