"""What of a conversation is carried on word for word, by rules that read one line at a time."""
# ruff: noqa: RUF001 - the patterns name the punctuation of many scripts

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import regex

from tersely.compressors.history_lines import Line
from tersely.facts import CUE, facts_of
from tersely.lexical import STOPWORDS

WISHES = regex.compile(
    r"(?i)\b(?:must|should|shall|need|want|wish|would|like|love|hate|prefer\w*|rather|hope|only"
    r"|always|ever|avoid|keep|stick|ensure|make\ssure|be\ssure|remember|forget|please|let['’]?s|let"
    r"|us(?:e|ing)|instead|least|most|more|less|fewer|max\w*|min\w*|before|after|until|under|over"
    r"|within|between|all|every|each|any|allerg\w+|budget|deadline|can|could|may|might|if|because"
    r"|going|plan\w*|looking|try\w*|interest\w*|my|mine|me|i['’]?(?:m|d|ll|ve)?|we|our|us)\b"
)
"""Words by which people say what they want, or tell of themselves."""

POLITE = regex.compile(
    r"(?i)[\W_]*(?:(?:thank\syou|thanks?|hi|hello|hey|dear|good\s(?:morning|evening|afternoon|day)"
    r"|cheers|great|perfect|awesome|wonderful|excellent|nice|cool|bye|goodbye|sorry|welcome|wow"
    r"|there|again|so\smuch|a\slot|very\smuch|for\s(?:your|the|all)(?:\syour)?"
    r"\s(?:help|assistance|time|information|explanation|answer|reply|patience)"
    r"|that['’]?s|sounds|good|have\sa|day|one|too|i\sappreciate\s(?:it|that|your\s(?:help|time))"
    r"|you['’]?re|very|really|much|appreciated)[\W_]*)++"
)
"""What is said to be polite, and nothing else."""

DECIDES = regex.compile(
    r"(?i)\b(?:i\s(?:will|have|won['’]t|can(?:not|['’]t)|was\s(?:able|unable))|i['’](?:ll|ve)"
    r"|we\s(?:will|have|agreed|decided|should)|we['’](?:ll|ve)|let['’]s|decided|decision|agreed"
    r"|confirm(?:ed|ation)|to-?do|next\sstep\w*|remain(?:s|ing)|still\s(?:need|have|to|open)"
    r"|pending|unresolved|open\s(?:question|task|issue|point)s?|waiting\sfor|successfully"
    r"|(?:has|have)\sbeen\s\w+|(?:is|are)\s(?:now\s\w+|booked|cancell?ed|changed|closed|completed?"
    r"|created|deleted|done|finished|fixed|moved|paid|refunded|removed|sent|set|updated)|not\s(?:yet|possible|available|allowed))\b"
)
"""Words by which an assistant says what is done, decided or left to do."""

SHORT = 6
"""Words of an answer that can't be understood without what was asked."""

PASTED = 100
"""Words up to which a message of the user's is taken to be their own, and every one to matter."""

ENGLISH = regex.compile(r"\p{ASCII}++")
LETTERED = regex.compile(r"\p{L}++")


def firm(lines: Sequence[Line]) -> list[bool]:
    """Which lines are carried on whatever they cost."""
    lengths = Counter(x.message for x in lines for _ in x.text.split() if x.who == "user")
    found = [_is_firm(line, lengths[line.message]) for line in lines]
    for i, (line, after) in enumerate(pairwise(lines)):
        asks = line.who == "assistant" and line.text.rstrip().endswith(("?", "？"))
        if asks and after.who == "user" and len(after.text.split()) <= SHORT:
            found[i] = True
    return found


def _is_firm(line: Line, length: int) -> bool:
    match line.who:
        case "user":
            is_said = length <= PASTED and not POLITE.fullmatch(line.text)
            return is_said or is_wish(line.text)
        case "assistant":
            return DECIDES.search(line.text) is not None
        case "call":
            return True
        case _:
            return False


def is_wish(sentence: str) -> bool:
    """Whether a sentence from a long message of the user's may bind the assistant.

    Anything but politeness and remarks may: what holds a fact, a wish, a negation or a question,
    a short answer, and whatever is not in English, where the rules know no words.
    """
    words = LETTERED.findall(sentence)
    if POLITE.fullmatch(sentence):
        return False
    if "?" in sentence or len(words) <= SHORT or not _is_english(words):
        return bool(sentence.strip())
    found = WISHES.search(sentence) or CUE.search(sentence) or facts_of(sentence)
    return bool(found) or sentence.rstrip().endswith(":") or "/" in sentence


def _is_english(words: Sequence[str]) -> bool:
    if not all(ENGLISH.fullmatch(word) for word in words):
        return False
    return any(STOPWORDS.fullmatch(word.lower()) for word in words)
