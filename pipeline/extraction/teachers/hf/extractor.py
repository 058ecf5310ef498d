"""Any audio encoder of transformers as an extractor: hidden states per frame, one embedding per clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.cards import ExtractorCard
from pipeline.errors import SettingError, WeightsError
from pipeline.extraction.teachers.hf.adapters import ADAPTERS
from pipeline.extraction.teachers.hf.architecture import Architecture, read_architecture
from pipeline.extraction.teachers.hf.front_ends import FrontEnd
from pipeline.extraction.teachers.hf.hidden_states import Block, layers_to_run, parse_layers
from pipeline.extraction.teachers.hf.loading import fold, load_network, shorten
from pipeline.extraction.teachers.hf.windows import Window, batch_windows, cut_windows, input_samples
from pipeline.weights.models import describe_model


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> HfEncoder:
    """The encoder of a configured card.

    Args:
        weights: the files of one model, settings among them, as
            :func:`pipeline.weights.models.fetch_model` gives them.

    Raises:
        SettingError: the card of the family, without a model.
        WeightsError: no files, files of several folders, or not those of the card's model.
    """
    if "model_type" not in card.parameters:
        raise SettingError(f"{card.name} needs a model: {card.name}:{card.subject}.")
    folders = sorted({path.parent for path in weights})
    if len(folders) != 1:
        raise WeightsError(f"{card.name} takes the files of one model in one folder, not of {len(folders)}.")
    model = describe_model(str(folders[0]))
    numbers = read_architecture(model.config, model.preprocessor, model.name)
    if model.config["model_type"] != card.parameters["model_type"] or numbers.rate_hz != card.rate_hz:
        raise WeightsError(f"{model.name} is not the model of the card {card.name}: it changed meanwhile.")
    adapter = ADAPTERS[numbers.adapter]
    network = load_network(folders[0], model.config, numbers, adapter, mode)
    return HfEncoder(
        card,
        outputs=outputs,
        mode=mode,
        network=network,
        front_end=adapter.front_end(model.preprocessor, numbers),
        numbers=numbers,
    )


class HfEncoder(Extractor):
    """A front end and an encoder. Each clip is what it would be alone."""

    def __init__(
        self,
        card: ExtractorCard,
        *,
        outputs: tuple[str, ...],
        mode: Mode,
        network: nn.Module,
        front_end: FrontEnd,
        numbers: Architecture,
    ) -> None:
        super().__init__()
        self.card, self.outputs, self.mode, self.numbers = card, outputs, mode, numbers
        self.network, self.front_end, self.adapter = network.eval(), front_end, ADAPTERS[numbers.adapter]
        self.blocks: tuple[Block, ...] = parse_layers(str(card.parameters["layers"]), numbers.n_layers)
        self.pool, self.window = int(card.parameters["pool"] or 0), int(card.parameters["window"] or 0)
        with torch.no_grad():
            shorten(network, self.adapter.layers, layers_to_run(self.blocks, numbers.n_layers))
            if mode != "exact":
                fold(network)
            if mode == "half":
                network.to(torch.bfloat16)

    def count_frames(self, output: str, n_samples: int) -> int:
        """One embedding per clip; a frame per hop, or per stretch that frames are averaged over."""
        n_frames = self.numbers.count_frames(n_samples)
        if output == "clip":
            return min(1, n_frames)
        return 1 + (n_frames - 1) * self.numbers.hop // self.pool if self.pool and n_frames else n_frames

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        lengths = [int(n) for n in n_valid.tolist()]
        counts = [self.numbers.count_frames(n) for n in lengths]
        audio = self.front_end.whole(audio, n_valid)
        channels = len(self.blocks) * self.numbers.channels
        frames = audio.new_zeros(len(lengths), max(1, *counts), channels)
        clips = audio.new_zeros(len(lengths), channels)
        for batch in batch_windows(cut_windows(lengths, self.numbers, self.window), self.numbers, len(lengths)):
            states, embeddings = self._run(audio, batch)
            for row, window in enumerate(batch):
                new = states[row, window.skip : window.skip + window.n_frames]
                frames[window.clip, window.first_frame : window.first_frame + window.n_frames] = new
                clips[window.clip] += new.sum(0) if embeddings is None else embeddings[row] * window.n_frames
        n_frames = torch.tensor(counts, device=audio.device)
        made = {}
        if "clip" in self.outputs:
            made["clip"] = Frames((clips / n_frames.clamp(min=1)[:, None])[:, None], n_frames.clamp(max=1))
        if "frames" in self.outputs:
            made["frames"] = self._pooled(frames, n_frames) if self.pool else Frames(frames, n_frames)
        return {name: made[name] for name in self.outputs}

    def _run(self, audio: Tensor, batch: Sequence[Window]) -> tuple[Tensor, Tensor | None]:
        """[window, frame, channel] in float32, and [window, channel] where a clip is not their mean."""
        windows = audio.new_zeros(len(batch), input_samples(batch[0], self.numbers))
        for row, window in enumerate(batch):
            windows[row, : window.n_samples] = audio[window.clip, window.start : window.start + window.n_samples]
        inputs = self.front_end(windows, torch.tensor([window.n_samples for window in batch], device=audio.device))
        dtype = next(self.network.parameters()).dtype
        inputs = {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            found = self.network(**inputs, output_hidden_states=self.blocks != ("last",), return_dict=True)
        tokens = [_choose(found, block).float() for block in self.blocks]
        states = torch.cat([self.adapter.frames(block, self.numbers) for block in tokens], -1)
        if self.adapter.clip is None:
            return states, None
        return states, torch.cat([self.adapter.clip(block) for block in tokens], -1)

    def _pooled(self, frames: Tensor, n_frames: Tensor) -> Frames:
        """Mean of the frames that begin within each stretch of ``pool`` samples."""
        at = torch.arange(frames.shape[1], device=frames.device)
        stretch = at * self.numbers.hop // self.pool
        inside = (stretch == torch.arange(int(stretch[-1]) + 1, device=frames.device)[:, None]).float()
        valid = (at < n_frames[:, None]).float()
        n_pooled = torch.where(n_frames > 0, 1 + (n_frames - 1) * self.numbers.hop // self.pool, 0)
        return mask_frames((inside @ frames) / (valid @ inside.T).clamp(min=1.0)[:, :, None], n_pooled)


def _choose(found: Any, block: Block) -> Tensor:
    if block == "last":
        return found.last_hidden_state  # type: ignore[no-any-return]
    if block == "mean":
        return torch.stack(found.hidden_states).float().mean(0)
    return found.hidden_states[int(block)]  # type: ignore[no-any-return]
