"""The cnn family: convolutional networks that train in minutes on one CPU core.

Source: ours. Sizes are chosen by the time of a training step on one CPU core, batches of 32 clips
of 10 s; relative to ``cnn-small`` a step of ``cnn-tiny`` takes about 0.5, of ``cnn-medium`` 1.7, of
``cnn-large`` 5.6.  Licence: MIT. There are no pretrained weights.

``parameters``: ``head`` is the width of the layer between the last convolution and the pooling over
time; with ``valid_statistics`` batch normalisation counts valid frames only while it trains
(``cnn-small`` keeps counting the zeros behind short clips, so that its runs stay comparable).
"""

from pipeline.cards import StudentCard


def _cnn(size: str, summary: str, channels: tuple[int, int, int], head: int, n_parameters: int) -> StudentCard:
    return StudentCard(
        name=f"cnn-{size}",
        summary=summary,
        builder="pipeline.distillation.students.cnn:build",
        front_end="mel-small",
        stage_channels=channels,
        n_parameters=n_parameters,
        licence="MIT",
        citation="this project",
        stage_names=("stage1", "stage2", "stage3"),
        example_frames=313,
        stage_frames=(79, 40, 20),
        parameters={"head": head, "valid_statistics": size != "small"},
    )


CARDS = (
    _cnn("tiny", "four narrow convolutions on 64 mels, half the time of cnn-small", (8, 16, 32), 32, 20_860),
    _cnn("small", "four convolutions on 64 mels, trains on a CPU core in under a minute", (16, 32, 64), 64, 79_844),
    _cnn("medium", "four convolutions on 64 mels, twice the parameters of cnn-small", (16, 48, 96), 96, 173_220),
    _cnn("large", "four wide convolutions on 64 mels, for long schedules or a GPU", (32, 96, 224), 192, 854_964),
)
