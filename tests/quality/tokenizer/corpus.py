"""Texts on which tokenizers tend to differ. The same on every run; the files are the machine's."""

import glob
import itertools
import os
import random

MB = 1_000_000
WHITE_SPACE = ("\t\n\v\f\r \x85\xa0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) +
               "\u2028\u2029\u202f\u205f\u3000")
NEARLY_WHITE = "\u180e\u200b\u200c\u200d\u2060\ufeff\x1c\x1d\x1e\x1f"
# First code points of runs of ten decimal digits, and other numbers.
DIGITS = [0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66,
          0xE50, 0xED0, 0xF20, 0x1040, 0x17E0, 0x1810, 0x1946, 0x1A80, 0x1B50, 0x1C40, 0xA620,
          0xA8D0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x11066, 0x1D7CE, 0x1E950, 0x1FBF0,
          0xB2, 0xBC, 0x2150, 0x2160, 0x2460, 0x3021, 0x3220, 0x10107, 0x1D360,
          0x10D40, 0x11BF0, 0x11DE0, 0x11F50, 0x16130, 0x16D70, 0x16FF4, 0x1CCF0, 0x1E4F0, 0x1E5F1]
SAMPLES = [
    ("Sphinx of black quartz, judge my vow. It's the dog's; they'll, I'd, we've, you're, I'm, "
     "don't."),
    "Les œufs à la coque, naïveté, Ça déjà vu; «où» — peut-être?", "Größe, Straße, Übermäßig, ẞ",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "いろはにほへと ちりぬるを。東京都、カタカナ１２３",
    "天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。",
    "다람쥐 헌 쳇바퀴에 타고파. 한글 맞춤법",
    "नमस्ते दुनिया, यह एक परीक्षण है।", "สวัสดีชาวโลก ภาษาไทย",
    "صِف خَلقَ خَودِ كَمِثلِ الشَمسِ إِذ بَزَغَت",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "வணக்கம் உலகம்",
    "Ջուր, արև, երկինք։", "ქართული ენა, საქართველო", "ሰላም ልዑል", "ကမ္ဘာလောက", "សួស្តីពិភពលោក",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň. Árvíztűrő tükörfúrógép. Pchnąć w tę łódź jeża.",
    "int main(void) {\n\treturn x[i++] >= 0x1F ? ~0u : (a->b)(c, *d);\n}\n\n\n",
    "def f(x):\n    return x\n",
    "https://example.org/a?b=c&d=%20#e  user@example.org  /usr/bin/env  C:\\Temp\\x.txt",
    "$1,234.56 + 50% = ½ × 10⁶ ± 3.14159e-10 №5 x² H₂O ∑∫√∞ ≤≠≥",
    "2024-02-29T23:59:60Z +1 (555) 010-9999",
    "\r\n\r\n  \r\n\t\t\n \n  x \r y", "'S 'T 'RE 'VE 'M 'LL 'D '\u017f '\u017fx 'lL 're's''ll'",
    "ALL CAPS'S THEY'LL",
    "a\u0301e\u0301\u0327 Z\u0351\u036b\u0343a\u030a\u0332 \u1112\u1161\u11ab",
    "\u202eRTL\u202c \u2066x\u2069 soft\u00adhyphen",
    "\U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466 \U0001F44D\U0001F3FD "
    "\U0001F1E9\U0001F1EA 1\ufe0f\u20e3 ❤️‍🔥 ✊🏿",
    "\U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F",
    "\0\x01\x02\x7f\x80\x9f\ufffe\uffff\U0010ffff",
]


def files(limit):
    """Prose and code that Debian and Python ship, `limit` bytes at most."""
    root = os.path.dirname(os.__file__)
    patterns = [("/usr/share/common-licenses/*", 0.15), ("/usr/share/doc/*/copyright", 0.25),
                ("/usr/include/**/*.h", 0.25), (root + "/*.py", 0.2),
                (root + "/test/test_[c-u]*.py", 0.05), (root + "/encodings/*.py", 0.05),
                ("/usr/share/perl/5*/**/*.p[ml]", 0.05)]
    for pattern, share in patterns:
        left = limit * share
        for path in sorted(glob.glob(pattern, recursive=True)):
            if left <= 0:
                break
            if not os.path.isfile(path) or os.path.islink(path):
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(200_000)
            left -= len(text.encode())
            yield text


def code_points():
    """Every code point of planes 0 to 3 and 14, a sample of the others, among other characters."""
    rest = itertools.chain(range(0x40000, 0xE0000, 97), range(0xE0000, 0xE1000),
                           range(0xE1000, 0x110000, 97))
    points = itertools.chain(range(0xD800), range(0xE000, 0x40000), rest)
    while chunk := list(itertools.islice(points, 256)):
        yield "".join(f"a{c} {c}.  {c}\n1{c}" for c in map(chr, chunk))
        yield "".join(map(chr, chunk))


def assembled(rng, parts, count, longest):
    for _ in range(count):
        yield "".join(rng.choice(parts) for _ in range(rng.randint(1, longest)))


def emoji(rng):
    people = [chr(c) for c in (0x1F466, 0x1F467, 0x1F468, 0x1F469, 0x1F9D1, 0x1F44D, 0x270A)]
    tones = [chr(c) for c in range(0x1F3FB, 0x1F400)]
    others = [chr(c) for c in [*range(0x1F300, 0x1F320), *range(0x1F600, 0x1F650),
                               *range(0x1F900, 0x1FA00), *range(0x2600, 0x2700)]]
    flags = [chr(c) for c in range(0x1F1E6, 0x1F200)]
    parts = people * 3 + tones * 2 + others + flags + ["\u200d"] * 80 + ["\ufe0f"] * 40 + [" "] * 20
    return assembled(rng, parts, 3000, 20)


def combining(rng):
    marks = [chr(c) for c in [*range(0x300, 0x370), *range(0x483, 0x48A), *range(0x591, 0x5BE),
                              *range(0x64B, 0x660), *range(0x93A, 0x950), *range(0x1AB0, 0x1AC0),
                              *range(0x20D0, 0x20F1), *range(0xFE20, 0xFE30)]]
    return assembled(rng, marks + list("aeinouzAEкиבگक 1.'") * 12, 3000, 30)


def numbers(rng):
    digits = [chr(first + i) for first in DIGITS for i in range(10)]
    return assembled(rng, digits + list("0123456789") * 40 + list(" .,a\n") * 30, 4000, 24)


def white_space(rng):
    parts = list(WHITE_SPACE) * 2 + list(NEARLY_WHITE)
    parts += list(" \n\r\t") * 10 + list("aB1.é'中") * 4
    return assembled(rng, parts, 8000, 14)


def short_ascii():
    """All strings of four out of the characters that the patterns name."""
    return map("".join, itertools.product(" \n\r\t'asS1.l", repeat=4))


def contractions(rng):
    parts = ["'", "'", *"sS\u017ftmdx 1’", "re", "Ve", "ll", "lL"]
    return assembled(rng, parts, 4000, 10)


def random_valid(rng):
    def point():
        top = rng.choice((0x7F, 0x7FF, 0xFFFF, 0x1FFFF, 0x3FFFF, 0x10FFFF))
        c = rng.randint(0, top)
        return chr(c) if not 0xD800 <= c < 0xE000 else " "
    for _ in range(4000):
        yield "".join(point() for _ in range(rng.randint(1, 60)))


def latin1(rng):
    return (rng.randbytes(rng.randint(1, 200)).decode("latin-1") for _ in range(2500))


def long_words(rng):
    letters = "".join(rng.choice("etaoinshrdlu") for _ in range(100_000))
    return ["a" * 30_000, letters, " " * 50_000, " " * 50_000 + "x", "\n" * 20_000, "7" * 20_000,
            "ab" * 20_000 + "!" * 20_000, "中文" * 10_000, "\t " * 20_000 + "\n", "=-" * 30_000]


def texts(megabytes=4):
    """(name, list of texts) of everything that is valid UTF-8."""
    rng = random.Random(20240229)
    yield "prose and code", list(files(megabytes * MB))
    yield "samples", SAMPLES
    yield "code points", list(code_points())
    yield "emoji", list(emoji(rng))
    yield "combining marks", list(combining(rng))
    yield "numbers", list(numbers(rng))
    yield "white space", list(white_space(rng))
    yield "short ASCII", list(short_ascii())
    yield "contractions", list(contractions(rng))
    yield "random valid UTF-8", list(random_valid(rng))
    yield "Latin-1", list(latin1(rng))
    yield "long words", long_words(rng)


def with_special(control):
    """Texts with control tokens, whole, cut and overlapping, between other things."""
    rng = random.Random(7)
    cut = [t[:rng.randint(1, len(t) - 1)] for t in control] + [t[1:] for t in control]
    return list(assembled(rng, control * 3 + cut + [" ", "\n", "user", "<", "|", "é", "7", "Hi"],
                          5000, 12))


def random_bytes():
    """Bytes that are mostly not UTF-8: noise, and text with bytes changed or cut off."""
    rng = random.Random(11)
    result = [rng.randbytes(rng.randint(1, 300)) for _ in range(4000)]
    for _ in range(6000):
        data = bytearray(rng.choice(SAMPLES).encode())
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at] = rng.choice((rng.randrange(256), 0x80, 0xC0, 0xE2, 0xED, 0xF4, 0xFF))
        result.append(bytes(data[rng.randint(0, 3):rng.randint(4, 200)]))
    return result
