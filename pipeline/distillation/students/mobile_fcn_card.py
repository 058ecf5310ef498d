"""mobile-fcn: the student of the paper for MagnaTagATune, a small fully convolutional network.

Sources: K. Choi, G. Fazekas, M. Sandler, Automatic Tagging Using Deep Convolutional Neural Networks,
ISMIR 2016, with the depthwise-separable convolutions of MobileNet (Howard et al., arXiv 1704.04861)
as in Y. Ding and A. Lerch, ISMIR 2023.  Licence: MIT. There are no pretrained weights.
"""

from pipeline.cards import StudentCard

CARDS = (
    StudentCard(
        name="mobile-fcn",
        summary="the paper's for MagnaTagATune: Choi's FCN with depthwise-separable convolutions",
        builder="pipeline.distillation.students.mobile_fcn:build",
        front_end="mel-mtat",
        stage_channels=(128, 256, 256),
        n_parameters=314_098,
        licence="MIT",
        citation="Choi et al., ISMIR 2016; Ding and Lerch, ISMIR 2023",
        n_classes=50,
        stage_names=("stage1", "stage2", "stage3"),
        example_frames=1455,
        stage_frames=(30, 15, 15),
    ),
)
