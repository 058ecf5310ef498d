"""The tcnext family: three early convolutions, then ConvNeXt-like blocks over time alone.

Sources: the blocks follow Z. Liu et al., A ConvNet for the 2020s, CVPR 2022; dilation that doubles
from block to block is that of S. Bai et al., arXiv 1803.01271.  The rest is ours.  Licence: MIT.
There are no pretrained weights.

``parameters``: ``fold`` is the width of the last convolution over mels, ``blocks`` how many follow
over time, each of ``kernel`` frames and ``expansion`` times as wide inside.
"""

from pipeline.cards import StudentCard


def _tcnext(size: str, summary: str, width: int, n_parameters: int) -> StudentCard:
    return StudentCard(
        name=f"tcnext-{size}",
        summary=summary,
        builder="pipeline.distillation.students.tcnext:build",
        front_end="mel-small",
        stage_channels=(16, 32, width),
        n_parameters=n_parameters,
        licence="MIT",
        citation="this project, after Liu et al., CVPR 2022",
        stage_names=("stage1", "stage2", "stage3"),
        example_frames=313,
        stage_frames=(79, 40, 20),
        parameters={"fold": 64, "blocks": 3, "kernel": 5, "expansion": 2},
    )


CARDS = (
    _tcnext("small", "convolutions, then ConvNeXt-like blocks over time; the pace of cnn-small", 64, 110_564),
    _tcnext("medium", "the same, twice as wide over time", 128, 295_588),
)
