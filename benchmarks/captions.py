"""Write a caption of several sentences for every video of a labelled table, from the name of its class.

    python benchmarks/captions.py TABLE.csv --out captioned.csv [--seed 0]
    python benchmarks/captions.py captioned.csv --ask RUN

The second asks a run by a few words: for each class what is seen and what is heard of it, one at a time, as `seehear
search RUN --text` does, and prints how many of the best ten segments are of the class.

TABLE.csv needs the columns path and label. Every row gets a column `caption`: a sentence that says what is seen, one
that says what is heard, and one that says nothing of the class, each drawn from templates with words that describe the
class, in a random order. So captions of a class differ, their sentences can be shuffled, and no two classes share all
their words. Paths are written as absolute ones, so that the new table can lie anywhere. The draw depends on the seed
and the path alone.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
from pathlib import Path

SEEN = (
    "You see {seen}.", "The picture shows {seen}.", "Here is {seen} in view.", "In front of the camera is {seen}.",
)  # fmt: skip
HEARD = ("You hear {heard}.", "The sound is {heard}.", "It sounds like {heard}.", "There is {heard} to be heard.")
ASIDE = (
    "The clip is short.", "Somebody recorded this.", "The light is as it is.", "Nothing else is said of it.",
    "The camera does not care.", "It goes on for a moment.",
)  # fmt: skip

WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # vizdoom_actions
    "chaingun": (("a chaingun", "a gun with several barrels"), ("quick steady shots", "a rattle of bullets")),
    "chainsaw": (("a chainsaw", "a saw held in both hands"), ("a motor that growls", "a saw running")),
    "energy_cannon": (("an energy cannon", "a huge green blaster"), ("a heavy charge and a blast", "energy let loose")),
    "pistol": (("a pistol", "a small handgun"), ("single small shots", "a handgun firing now and then")),
    "plasma_rifle": (("a plasma rifle", "a rifle with blue bolts"), ("bolts that hiss", "fast electric zaps")),
    "punch": (("bare fists", "a hand that punches"), ("blows in the air", "a swing of the arm")),
    "rocket_launcher": (("a rocket launcher", "a tube with rockets"), ("an explosion far away", "rockets whooshing")),
    "shotgun": (("a shotgun", "a pump gun"), ("one loud shot and a pump", "a pump after each shot")),
    "super_shotgun": (("a super shotgun", "a gun with two barrels"), ("a double blast", "two shells being loaded")),
    # photosound
    "accordion": (("an accordion", "bellows with keys"), ("reeds and bellows", "an accordion playing")),
    "clock": (("a clock", "a dial with hands"), ("ticking", "a steady tick and tock")),
    "dog": (("a dog", "an animal with floppy ears"), ("barking", "a bark")),
    "electric_guitar": (("an electric guitar", "a guitar with pickups"), ("distorted strings", "a guitar amplifier")),
    "helicopter": (("a helicopter", "an aircraft with rotors"), ("rotor blades", "a helicopter flying by")),
    "mandolin": (("a mandolin", "a small bowed body with eight strings"), ("plucked double strings", "a tremolo")),
    "piano": (("a piano", "black and white keys"), ("hammers on strings", "somebody playing the piano")),
    "rain": (("rain", "drops and umbrellas"), ("water falling on the ground", "rain pattering")),
    "rooster": (("a rooster", "a bird with a red comb"), ("a crow at dawn", "a rooster crowing")),
    "saxophone": (("a saxophone", "a bent brass tube"), ("a reed played low", "a saxophone solo")),
    "sea": (("the sea", "waves and a beach"), ("waves breaking", "surf")),
    "speech": (("a face", "a person who looks at you"), ("a voice", "somebody talking")),
}
"""For each class what is seen and what is heard, in words to choose from."""


def caption(label: str, rng: random.Random) -> str:
    """Three sentences about a class, in a random order."""
    seen, heard = WORDS[label]
    parts = [
        rng.choice(SEEN).format(seen=rng.choice(seen)),
        rng.choice(HEARD).format(heard=rng.choice(heard)),
        rng.choice(ASIDE),
    ]
    rng.shuffle(parts)
    return " ".join(parts)


def ask(run: Path, labels: dict[str, str]) -> None:
    """Search a run by the words of each class; `labels` are the classes of its videos by path."""
    import seehear

    shares: dict[str, list[float]] = {"seen": [], "heard": []}
    for label in sorted(set(labels.values())):
        told = []
        for kind, phrases in zip(shares, WORDS[label], strict=True):
            for phrase in phrases:
                hits = seehear.search(run, text=phrase, k=10).hits
                share = sum(labels[hit["path"]] == label for hit in hits) / len(hits)
                shares[kind].append(share)
                told.append(f"{phrase!r} {share:.1f}")
        print(f"{label}: {', '.join(told)}")
    means = ", ".join(f"{kind} {sum(found) / len(found):.3f}" for kind, found in shares.items())
    print(f"of the best ten of the class, by what is {means}; chance {1 / len(set(labels.values())):.3f}")


def main() -> None:
    """Read the table and write it with captions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ask", type=Path, metavar="RUN")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.table is None:
        print("captions.py needs a collection with known classes: captions.py TABLE.csv --out CAPTIONED.csv")
        return
    with asked.table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    unknown = sorted({row["label"] for row in rows} - WORDS.keys())
    if unknown:
        parser.error(f"{asked.table}: there are no words for {', '.join(unknown)}; add them to WORDS in this script")
    if (asked.ask is None) == (asked.out is None):
        parser.error("give --out, or --ask")
    if asked.ask is not None:
        ask(asked.ask, {os.path.abspath(asked.table.parent / row["path"]): row["label"] for row in rows})
        return
    for row in rows:
        row["caption"] = caption(row["label"], random.Random(f"{asked.seed} {row['path']}"))
        row["path"] = os.path.abspath(asked.table.parent / row["path"])
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with asked.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    words = {word for row in rows for word in row["caption"].lower().replace(".", "").split()}
    different = len({row["caption"] for row in rows})
    print(f"{asked.out}: {len(rows)} captions, {different} of them different, {len(words)} words")


if __name__ == "__main__":
    main()
