"""Log-mel spectrograms of batches of waveforms, on any device. Scale and filters are those of `seehear.media.mel`."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn

from seehear.errors import UsageError
from seehear.media.mel import count_empty_filters, highest_hz, mel_filters

MAX_N_FFT = 1 << 16


def choose_n_fft(
    sample_rate_hz: int,
    window_seconds: float,
    mel_bins: int,
    f_min_hz: float = 0.0,
    f_max_hz: float | None = None,
) -> int:
    """The smallest power of two that holds the window and leaves no mel filter without a bin.

    Raises `UsageError` if even `MAX_N_FFT` leaves some empty.
    """
    n_fft = 1 << max(1, math.ceil(math.log2(max(2, round(window_seconds * sample_rate_hz)))))
    while n_fft <= MAX_N_FFT:
        if not count_empty_filters(sample_rate_hz, n_fft, mel_bins, f_min_hz, f_max_hz):
            return n_fft
        n_fft *= 2
    raise UsageError(
        f"{mel_bins} mel filters between {f_min_hz:g} Hz and "
        f"{sample_rate_hz / 2 if f_max_hz is None else f_max_hz:g} Hz are too many for any FFT",
        "use fewer mel bins",
    )


class LogMelSpectrogram(nn.Module):
    """Natural logarithm of mel power plus an offset: (B, S) waveform -> (B, 1, Q, P).

    Q = `mel_bins`, P = `frames`. Frame p is centred on sample (p + first) * hop, the ends padded with zeros.
    S samples give S // hop + 1 centred frames; those beyond `frames` are cropped, the last first and then by
    turns (2 s at a hop of 20 ms: the last of 101). So 2 s give 100 frames, and 1 s at 10 ms gives 99 or 100.

    n_fft: None picks the smallest power of two that leaves no filter empty (`choose_n_fft`); a given one that
        leaves some empty is kept, with a warning that says how many
    log_offset: added to the power before the logarithm, which bounds it below

    Computed in float32 even under autocast. Normalisation is the data layer's.
    """

    filters: Tensor
    window: Tensor

    def __init__(
        self,
        *,
        sample_rate_hz: int,
        mel_bins: int,
        hop_seconds: float,
        window_seconds: float,
        frames: int,
        n_fft: int | None = None,
        f_min_hz: float = 0.0,
        f_max_hz: float | None = None,
        log_offset: float = 1e-6,
    ) -> None:
        super().__init__()
        top = highest_hz(sample_rate_hz, f_min_hz, f_max_hz)
        self.hop = round(hop_seconds * sample_rate_hz)
        self.window_samples = round(window_seconds * sample_rate_hz)
        if self.hop < 1 or self.window_samples < 2 or frames < 1 or mel_bins < 1 or log_offset <= 0:
            raise UsageError(
                "a spectrogram needs a hop of a sample, a window of two, a frame, a mel bin and an offset > 0"
            )
        if n_fft is not None and n_fft < self.window_samples:
            raise UsageError(f"n_fft {n_fft} is shorter than the window of {self.window_samples} samples")
        self.sample_rate_hz, self.mel_bins, self.frames = sample_rate_hz, mel_bins, frames
        self.log_offset = log_offset
        self.n_fft = n_fft or choose_n_fft(sample_rate_hz, window_seconds, mel_bins, f_min_hz, top)
        filters = mel_filters(sample_rate_hz, self.n_fft, mel_bins, f_min_hz, top)
        if empty := count_empty_filters(sample_rate_hz, self.n_fft, mel_bins, f_min_hz, top):
            warnings.warn(
                f"{empty} of {mel_bins} mel filters are empty at n_fft {self.n_fft} and will always be "
                f"silent; leave n_fft unset, or use fewer mel bins",
                stacklevel=2,
            )
        # Derived from the settings, so not part of a checkpoint.
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.window_samples), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, S) float -> (B, 1, Q, P) float32. Raises `ValueError` if S does not fit `frames`."""
        if waveform.ndim != 2:
            raise ValueError(f"waveforms of shape (batch, samples) are needed, not {tuple(waveform.shape)}")
        extra = waveform.shape[1] // self.hop + 1 - self.frames
        # One frame more is due to centring; up to a window more, to formulas without padding.
        if not 0 <= extra <= 1 + math.ceil(self.window_samples / self.hop):
            raise ValueError(
                f"{waveform.shape[1]} samples at a hop of {self.hop} give {extra + self.frames} frames, "
                f"not the {self.frames} asked for"
            )
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = torch.stft(
                waveform.float(),
                self.n_fft,
                hop_length=self.hop,
                win_length=self.window_samples,
                window=self.window,
                center=True,
                pad_mode="constant",
                return_complex=True,
            )
            first = extra // 2
            spectrum = spectrum[:, :, first : first + self.frames]
            power = spectrum.real.square() + spectrum.imag.square()  # (B, F, P); a sum over pairs is three times slower
            mel = torch.matmul(self.filters, power)
            return torch.log(mel + self.log_offset).unsqueeze(1)

    def extra_repr(self) -> str:
        return (
            f"{self.sample_rate_hz} Hz, {self.mel_bins} mel bins x {self.frames} frames, hop {self.hop}, "
            f"window {self.window_samples}, n_fft {self.n_fft}"
        )
