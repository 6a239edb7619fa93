"""The same scan from a worse or another scanner: dose, kernel, slices, position, field of view.

Arrays are int16 HU [z, y, x] on their own grid: z from feet to head, y to the back, x to the
patient's left; spacing is mm along [z, y, x]. Everything here works on reconstructed images, not on
projections: streaks and photon starvation are not simulated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from lungmesh.preprocess.noise import local_moments, most_frequent, window_mean

Hu = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]
Triple = tuple[float, float, float]

_LOWEST, _HIGHEST = -1024, 3071
_SLICES_AT_ONCE = 16
_SECOND = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
# What standard kernels pass, cycles/mm: the search for a host's own.
_CUTOFFS = np.geomspace(0.12, 1.2, 40)


@dataclass(frozen=True)
class Degraded:
    """A scan after the change.

    Attributes
    ----------
    hu
        int16 [z, y, x].
    spacing
        mm along [z, y, x].
    scale, offset
        New index = old index x scale + offset, along [z, y, x].
    """

    hu: Hu
    spacing: Triple
    scale: Triple = (1.0, 1.0, 1.0)
    offset: Triple = (0.0, 0.0, 0.0)

    def index(self, old: npt.ArrayLike) -> Floats:
        """Map index coordinates of the scan before, (…, 3) as z, y, x, to those of this one."""
        new: Floats = np.asarray(old, float) * self.scale + self.offset
        return new

    def holds(self, old: npt.ArrayLike) -> Mask:
        """Return which index coordinates (…, 3) of the scan before lie in this one: bool (…)."""
        new = self.index(old)
        inside = (new > -0.5) & (new < np.array(self.hu.shape) - 0.5)
        held: Mask = np.asarray(inside.all(axis=-1))
        return held

    def moved(self, mask: Mask) -> Mask:
        """Return a mask of the scan before, bool [z, y, x], on this one's grid (nearest voxel)."""
        nearest = [
            np.clip(np.rint((np.arange(n) - b) / a).astype(int), 0, m - 1)
            for n, m, a, b in zip(self.hu.shape, mask.shape, self.scale, self.offset, strict=True)
        ]
        return mask[np.ix_(*nearest)]


@dataclass(frozen=True)
class Noise:
    """Noise of a scan.

    Attributes
    ----------
    tissue_hu, lung_hu
        Standard deviation in soft tissue and in aerated lung.
    cutoff_per_mm
        Of its spectrum f·exp(-(f/cutoff)²): a ramp under the kernel's fall.
    along_z
        Correlation between neighbouring slices.
    """

    tissue_hu: float
    lung_hu: float
    cutoff_per_mm: float
    along_z: float


def measured_noise(hu: Hu, spacing: Triple, lungs: Mask) -> Noise:
    """Measure a scan's noise.

    The deviation is the most frequent one of small windows (Christianson O et al., AJR
    2015;205:W93-W99): windows with anatomy lie above it. In lung, vessels are in every window;
    there the second difference along y and x is taken (Immerkær J, Comput Vis Image Underst
    1996;64:300-302), which they enter least, in proportion to that of soft tissue. The spectrum is
    the ramp with a fall whose correlation between neighbouring pixels is that of flat soft tissue.

    Parameters
    ----------
    lungs
        bool [z, y, x].
    """
    picked = np.unique(np.linspace(0, max(0, len(hu) - 2), 24).astype(int))
    part = hu[picked].astype(np.float32)
    above = hu[np.minimum(picked + 1, len(hu) - 1)].astype(np.float32)
    mean, square = local_moments(part, spacing[1])
    rest = part - mean
    second = ndimage.correlate(part, _SECOND[None])
    level, spread_of_second = local_moments(second, spacing[1])
    fine = np.sqrt(level**2 + spread_of_second)
    deviation = np.sqrt(square)
    tissue = np.abs(mean - 40) < 50
    lung = lungs[picked] & (mean < -750)
    tissue_hu = most_frequent(deviation[tissue])
    lung_hu = tissue_hu * most_frequent(fine[lung]) / max(most_frequent(fine[tissue]), 1e-6)
    flat = tissue & (deviation < 1.15 * tissue_hu)
    across, along_z = 0.5, 0.0
    if flat.sum() > 1000:
        variance = float(square[flat].mean())
        step = (part - np.roll(part, 1, 2))[flat]
        across = 1 - float(np.mean(step**2)) / (2 * variance)
        rise = (rest - above + window_mean(above, spacing[1]))[flat]
        spread = 1.4826 * float(np.median(np.abs(rise)))
        along_z = float(np.clip(1 - spread**2 / (2 * variance), 0, 0.45))
    return Noise(tissue_hu, lung_hu or tissue_hu, _cutoff(across, spacing[2]), along_z)


def quarter_dose(hu: Hu, spacing: Triple, lungs: Mask, seed: int) -> Degraded:
    """Return the scan with four times its noise variance, as a quarter of the dose gives.

    The added noise has the scan's own deviation in lung and in soft tissue, its spectrum in the
    plane, and its correlation between slices.

    Parameters
    ----------
    lungs
        bool [z, y, x].
    """
    return with_noise(hu, spacing, measured_noise(hu, spacing, lungs), np.sqrt(3), seed)


def with_noise(hu: Hu, spacing: Triple, noise: Noise, times: float, seed: int) -> Degraded:
    """Return the scan with `noise` added, its deviation multiplied by `times`."""
    random = np.random.default_rng(seed)
    shape = hu.shape[1:]
    gain = _frequencies(shape, spacing, half=True)
    gain = np.sqrt(gain * np.exp(-((gain / noise.cutoff_per_mm) ** 2)))
    # Neighbouring slices share a part b of their noise: correlation b / (1 + b²).
    rho = noise.along_z
    shared = (1 - np.sqrt(1 - 4 * rho**2)) / (2 * rho) if rho > 0 else 0.0
    last = _field(random, gain, shape)
    out = np.empty_like(hu)
    for z, plane in enumerate(hu):
        fresh = _field(random, gain, shape)
        field = (fresh + shared * last) / np.sqrt(1 + shared**2)
        last = fresh
        local = ndimage.uniform_filter(plane.astype(np.float32), round(5 / spacing[1]) | 1)
        tissue = np.clip((local + 850) / 850, 0, 1)
        deviation = noise.lung_hu + tissue * (noise.tissue_hu - noise.lung_hu)
        out[z] = rounded(plane + times * deviation * field)
    return Degraded(out, spacing)


def soft_kernel(hu: Hu, spacing: Triple, sigma_mm: float = 0.7) -> Degraded:
    """Return the scan as of a smooth kernel: a further Gaussian blur of `sigma_mm` in the plane."""
    return _filtered(hu, spacing, lambda f: np.exp(-2 * (np.pi * sigma_mm * f) ** 2))


def sharp_kernel(hu: Hu, spacing: Triple, boost: float = 1.5) -> Degraded:
    """Return the scan as of an edge-enhancing kernel: noise and edges rise, the mean stays.

    Parameters
    ----------
    boost
        Gain at high frequency is 1 + boost, half of the rise at about 0.3 cycles/mm.
    """
    return _filtered(hu, spacing, lambda f: 1 + boost * (1 - np.exp(-((f / 0.36) ** 2))))


def thick_slices(hu: Hu, spacing: Triple, mm: float) -> Degraded:
    """Average neighbouring slices into contiguous ones of `mm`; what is left at the head is cut.

    Raises ValueError when the scan's own slices are thicker or its stack is thinner.
    """
    own = spacing[0]
    if mm < own - 1e-6:
        raise ValueError(f"slices of {own:g} mm cannot be made into slices of {mm:g} mm")
    count = int(len(hu) * own / mm + 1e-6)
    if count < 1:
        raise ValueError(f"{len(hu)} slices of {own:g} mm do not fill one of {mm:g} mm")
    low = mm * np.arange(count)[:, None]
    edge = own * np.arange(len(hu))
    # mm that each old slice shares with each new one.
    shared = np.minimum(low + mm, edge + own) - np.maximum(low, edge)
    weights = (np.clip(shared, 0, None) / mm).astype(np.float32)
    out = np.empty((count, *hu.shape[1:]), np.int16)
    for k, row in enumerate(weights):
        used = np.flatnonzero(row)
        part = hu[used[0] : used[-1] + 1].astype(np.float32)
        out[k] = rounded(np.tensordot(row[used[0] : used[-1] + 1], part, 1))
    return Degraded(out, (mm, *spacing[1:]), (own / mm, 1.0, 1.0), (0.5 * own / mm - 0.5, 0.0, 0.0))


def flipped(hu: Hu, spacing: Triple, axis: int) -> Degraded:
    """Return the scan mirrored along an axis: 0 is head to foot, 2 is left to right."""
    scale, offset = [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    scale[axis], offset[axis] = -1.0, hu.shape[axis] - 1.0
    out = np.ascontiguousarray(np.flip(hu, axis))
    return Degraded(out, spacing, _triple(scale), _triple(offset))


def prone(hu: Hu, spacing: Triple, lungs: Mask) -> Degraded:
    """Return the scan as of a patient on the belly, not turned back: rotated by 180° about z.

    The lung that lay lowest (the back) becomes as light as the front was, and the front as dense:
    the slope of HU along y is measured in the lungs and turned round. Organs keep their shape.

    Parameters
    ----------
    lungs
        bool [z, y, x].
    """
    slope, middle = _gravity(hu, lungs)
    tilt = (-2 * slope * (np.arange(hu.shape[1]) - middle)).astype(np.float32)[:, None]
    out = np.empty_like(hu)
    for z, plane in enumerate(hu):
        # Vessels and the air of bronchi keep their HU.
        local = ndimage.gaussian_filter(plane.astype(np.float32), 1.5 / spacing[1])
        share = np.clip((-550 - local) / 150, 0, 1) * np.clip((local + 990) / 40, 0, 1)
        out[z] = rounded(plane + lungs[z] * share * tilt)
    return Degraded(
        np.ascontiguousarray(out[:, ::-1, ::-1]),
        spacing,
        (1.0, -1.0, -1.0),
        (0.0, hu.shape[1] - 1.0, hu.shape[2] - 1.0),
    )


def cropped_field(hu: Hu, spacing: Triple, lungs: Mask, share: float = 0.85) -> Degraded:
    """Cut the field of view to the middle `share` of the lungs' box in the plane.

    Parameters
    ----------
    lungs
        bool [z, y, x].

    Raises ValueError when `lungs` is empty.
    """
    plane: Mask = np.asarray(lungs.any(axis=0))
    if not plane.any():
        raise ValueError("there are no lungs to cut the field of view around")
    parts = []
    for axis in (1, 0):
        used = np.flatnonzero(plane.any(axis=axis))
        cut = round((used[-1] + 1 - used[0]) * (1 - share) / 2)
        parts.append(slice(int(used[0]) + cut, int(used[-1]) + 1 - cut))
    y, x = parts
    out = np.ascontiguousarray(hu[:, y, x])
    return Degraded(out, spacing, offset=(0.0, -float(y.start), -float(x.start)))


def _filtered(hu: Hu, spacing: Triple, gain: Callable[[Floats], Floats]) -> Degraded:
    """Multiply each slice's spectrum by `gain` (of cycles/mm), mirrored at the slice's edge."""
    shape = hu.shape[1:]
    factor = gain(_frequencies(shape, spacing, half=False)).astype(np.float32)
    out = np.empty_like(hu)
    for z in range(0, len(hu), _SLICES_AT_ONCE):
        part = hu[z : z + _SLICES_AT_ONCE].astype(np.float32)
        spectrum = fft.dctn(part, axes=(1, 2), overwrite_x=True) * factor
        out[z : z + _SLICES_AT_ONCE] = rounded(fft.idctn(spectrum, axes=(1, 2)))
    return Degraded(out, spacing)


def _frequencies(shape: tuple[int, ...], spacing: Triple, half: bool) -> Floats:
    """Return cycles/mm of each coefficient: of `rfft2` if `half`, else of the cosine transform."""
    if half:
        y, x = fft.fftfreq(shape[0], spacing[1]), fft.rfftfreq(shape[1], spacing[2])
    else:
        y, x = (np.arange(n) / (2 * n * mm) for n, mm in zip(shape, spacing[1:], strict=True))
    radius: Floats = np.hypot(y[:, None], x[None])
    return radius


def _field(random: np.random.Generator, gain: Floats, shape: tuple[int, ...]) -> Image:
    """Return one slice of noise of deviation 1 with the spectrum gain²."""
    parts = random.standard_normal((2, *gain.shape), np.float32)
    spectrum = (parts[0] + 1j * parts[1]) * gain.astype(np.float32)
    field: Image = fft.irfft2(spectrum, s=shape)
    field /= field.std()
    return field


def _cutoff(across: float, pixel_mm: float) -> float:
    """Return the cutoff whose noise has the correlation `across` between neighbouring pixels."""
    axis = fft.fftfreq(64, pixel_mm)
    radius = np.hypot(axis[:, None], axis)
    phase = np.cos(2 * np.pi * axis * pixel_mm)
    spectra = [radius * np.exp(-((radius / cutoff) ** 2)) for cutoff in _CUTOFFS]
    made = np.array([float((power * phase).sum() / power.sum()) for power in spectra])
    return float(_CUTOFFS[int(np.abs(made - across).argmin())])


def _gravity(hu: Hu, lungs: Mask) -> tuple[float, float]:
    """Return HU a voxel along y in aerated lung, by medians of rows, and the middle row."""
    rows, levels, weights = [], [], []
    for y in range(hu.shape[1]):
        values = hu[::2, y][lungs[::2, y]]
        values = values[values < -600]
        if values.size >= 200:
            rows.append(y)
            levels.append(float(np.median(values)))
            weights.append(values.size**0.5)
    if len(rows) < 8:
        return 0.0, hu.shape[1] / 2
    slope = float(np.polyfit(rows, levels, 1, w=weights)[0])
    return slope, float(np.average(rows, weights=np.square(weights)))


def rounded(values: Floats) -> Hu:
    """Return HU as scanners store them: whole, and within their range."""
    hu: Hu = np.clip(np.rint(values), _LOWEST, _HIGHEST).astype(np.int16)
    return hu


def _triple(values: list[float]) -> Triple:
    return values[0], values[1], values[2]
