"""MagnaTagATune: what it is, where to get it, and the two splits in use, which are never to be confused.

Sources: Law, West, Mandel, Bay, Downie, ISMIR 2009; the clean split after Won, Ferraro, Bogdanov,
Serra, SMC 2020.  Macro average precision differs by about 0.08 between the splits.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.cards import DatasetCard, OptionCard

#: The 50 tags with most clips, in that order.
# fmt: off
CLASSES = (
    "guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano", "ambient",
    "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing", "vocals", "no vocals",
    "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop", "soft", "sitar", "solo", "man",
    "classic", "choir", "voice", "new age", "dance", "male voice", "female vocal", "beats", "harp", "cello",
    "no voice", "weird", "country", "metal", "female voice", "choral",
)
# fmt: on

_TAGS = OptionCard("tags", 50, "How many tags are classes, those with most clips")

FULL = DatasetCard(
    name="magnatagatune",
    version="1",
    summary="MagnaTagATune, full split: 25,860 clips of 29 s, 50 tags; you have the files",
    builder="pipeline.datasets.magnatagatune:build_full",
    task="multi-label",
    classes=CLASSES,
    licence="CC-BY-NC-SA-3.0",
    citation=(
        "E. Law, K. West, M. Mandel, M. Bay, J. S. Downie: Evaluation of algorithms using games: the case of music "
        "tagging, ISMIR 2009"
    ),
    source=(
        "https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset (mp3.zip.001 to .003, joined and unpacked; "
        "annotations_final.csv; clip_info_final.csv)"
    ),
    split_rule="full split: folders 0 to b train, c valid, d to f test; clips without any of the tags are kept",
    options=(_TAGS,),
)

CLEAN = replace(
    FULL,
    name="magnatagatune-clean",
    summary="MagnaTagATune, clean split: clips with at least one of 50 tags, by published lists; you have the files",
    builder="pipeline.datasets.magnatagatune:build_clean",
    citation=(
        f"{FULL.citation}; split: M. Won, A. Ferraro, D. Bogdanov, X. Serra: Evaluation of CNN-based automatic music "
        "tagging models, SMC 2020"
    ),
    source=(
        f"{FULL.source}, and the lists train.npy, valid.npy, test.npy from split/mtat of "
        "https://github.com/minzwon/sota-music-tagging-models"
    ),
    split_rule="clean split (Won et al. 2020): the clips of three lists, each with at least one of the 50 tags",
    options=(_TAGS, OptionCard("lists", "", "Folder of the lists of train, valid and test clips; the dataset's own")),
)

CARDS = (FULL, CLEAN)
