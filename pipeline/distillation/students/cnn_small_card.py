"""cnn-small: a convolutional network small enough to train in a minute on one core.

Source: ours. Sizes are chosen by the time of a training step on one CPU core.
Licence: MIT. There are no pretrained weights.
"""

from pipeline.cards import StudentCard

CARDS = (
    StudentCard(
        name="cnn-small",
        summary="four convolutions on 64 mels, trains on a CPU core in under a minute",
        builder="pipeline.distillation.students.cnn_small:build",
        front_end="mel-small",
        stage_channels=(16, 32, 64),
        n_parameters=79_844,  # with 20 classes
        licence="MIT",
        citation="this project",
    ),
)
