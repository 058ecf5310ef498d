"""cp-resnet: the student of the paper for OpenMIC, a ResNet of limited receptive field.

Sources: K. Koutini, H. Eghbal-zadeh, M. Dorfer, G. Widmer, The Receptive Field as a Regularizer in
Deep Convolutional Neural Networks for Acoustic Scene Classification, EUSIPCO 2019; with rho 7 and
base width 128 in Y. Ding and A. Lerch, ISMIR 2023.  Licence: MIT. There are no pretrained weights.
"""

from pipeline.cards import StudentCard

CARDS = (
    StudentCard(
        name="cp-resnet",
        summary="the paper's for OpenMIC: receptive-field-regularised ResNet, rho 7, width 128",
        builder="pipeline.distillation.students.cp_resnet:build",
        front_end="mel-openmic",
        stage_channels=(128, 256, 512),
        n_parameters=5_534_612,
        licence="MIT",
        citation="Koutini et al., EUSIPCO 2019; Ding and Lerch, ISMIR 2023",
        n_classes=20,
        stage_names=("stage1", "stage2", "stage3"),
        example_frames=1000,
        stage_frames=(62, 62, 62),
    ),
)
