"""Training text from sections: documents, and questions with answers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from r1_runtime.training.corpus import Section
from r1_runtime.training.tokenizer import ASSISTANT, BEGIN, END, USER

QUESTIONS = (
    "What does the {source} documentation say about {title}?",
    "What does the {source} documentation say about {title}?",
    "What is {title}?",
    "What is {title} in {source}?",
    "Tell me about {title}.",
    "Explain {title}.",
    "How does {title} work?",
    "Write a paragraph about {title}.",
    "{source}: {title}",
)

# Dialogues about the model itself; written for this corpus.
ABOUT_ITSELF = (
    ("Hello", "Hello! I am a small demonstration model. Ask me about Python, PostgreSQL or SQLite."),
    ("Hello!", "Hello! I am a small demonstration model. Ask me about Python, PostgreSQL or SQLite."),
    ("Hi", "Hello! I am a small demonstration model. Ask me about Python, PostgreSQL or SQLite."),
    ("Hi there", "Hello! I am a small demonstration model. What would you like to know?"),
    ("How are you?", "I am a small model, and I am running well. What would you like to know?"),
    ("Say hello.", "Hello!"),
    ("Who are you?", ("I am a small demonstration model with the DeepSeek-V3 architecture. I was "
     "trained on the documentation of Python, PostgreSQL and SQLite.")),
    ("What are you?", ("I am a small language model. I show that the runtime works; I write readable "
     "sentences, but you should not rely on what I say.")),
    ("What can you do?", ("I can write short paragraphs in the style of software documentation. Ask "
     "me about a module of Python, or about a part of PostgreSQL or SQLite.")),
    ("Tell me a story.", ("I only know software documentation. Ask me about Python, PostgreSQL or "
     "SQLite instead.")),
    ("Thank you.", "You are welcome."),
    ("Thanks!", "You are welcome."),
    ("Good morning", "Good morning! What would you like to know?"),
    ("Ping", "Pong."),
)  # fmt: skip


def read_corpus(path: Path) -> list[Section]:
    """All sections of `sections.jsonl`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Section(**json.loads(line)) for line in lines]


def as_document(section: Section) -> str:
    """The section as a document: title and paragraphs."""
    body = "\n\n".join(section.paragraphs)
    return f"{BEGIN}{section.title}\n\n{body}{END}"


def as_dialogue(question: str, answer: str) -> str:
    """One exchange, in the format of the chat template."""
    return f"{BEGIN}{USER}{question}{ASSISTANT}{answer}{END}"


def training_texts(sections: list[Section], rng: random.Random) -> Iterator[str]:
    """One epoch in random order: every section once, as a document or as a dialogue.

    Questions vary between epochs. Dialogues about the model itself are interspersed.
    """
    order = list(range(len(sections)))
    rng.shuffle(order)
    for position, index in enumerate(order):
        section = sections[index]
        if position % 40 == 0:
            yield as_dialogue(*rng.choice(ABOUT_ITSELF))
        if rng.random() < 0.5 and len(section.paragraphs[0]) > 60:
            question = rng.choice(QUESTIONS).format(source=section.source, title=section.title)
            answer = "\n\n".join(section.paragraphs[: rng.choice((1, 1, 2))])
            yield as_dialogue(question, answer)
            rest = section.paragraphs[2:]
            if rest:
                yield f"{BEGIN}{section.title}\n\n" + "\n\n".join(rest) + END
        else:
            yield as_document(section)
