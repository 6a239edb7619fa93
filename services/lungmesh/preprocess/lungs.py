"""The lungs, right and left, by thresholds and shape: no training, the same answer every time.

Air inside the body is lung or airway; the airways are grown from the trachea and taken out; the
rest is split into two lungs and closed over vessels and over nodules that touch the chest wall.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from lungmesh.preprocess.coarse import Coarse

Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]

NAME, VERSION = "lung-mask-classical", "2"
RIGHT, LEFT = 1, 2

# Lung against soft tissue: half-way between aerated lung (-850) and muscle (50).
_LUNG_BELOW_HU = -400.0
# Peeled off on both sides of whatever is no air.
_SHELL_MM = 4.0
# The trachea's lumen on 2 mm voxels.
_LUMEN_BELOW_HU = -900.0
# The tree is grown at rising thresholds until it leaks: bronchial walls fade by partial volume,
# at another level in every scanner and in every emphysema.
_TREE_LEVELS_HU = tuple(float(level) for level in range(-990, -840, 10))
# Trachea and main bronchi hold 30 to 80 ml; a tree that grows beyond leaked into the lung.
_AIRWAY_MAX_ML = 90.0
# Trachea on an axial slice, mm².
_TRACHEA_AREA_MM2 = (40.0, 900.0)
# A smaller piece of air is no lung: gas in the bowel, an emphysema of the neck.
_LUNG_MIN_ML = 80.0
# Gas in stomach and bowel, in the median; emphysema is lighter.
_GAS_BELOW_HU = -960.0
# The smaller lung has at least this share when one piece of air is two lungs grown together.
_SPLIT_SHARE = 0.2
# The junction of the lungs lies this near the middle of both.
_JUNCTION_REACH_MM = 40.0
# A dent of the chest wall's side up to this radius is a nodule of 30 mm, not the wall.
_PLEURAL_RADIUS_MM = 16.0
# Vessels and bronchi entering the lung, everywhere.
_VESSEL_RADIUS_MM = 5.0
# The chest wall's side: this near the common outline of both lungs. The aorta and the heart's
# borders, which a large closing would swallow, lie deeper.
_COSTAL_DEPTH_MM = 36.0


def find_lungs(coarse: Coarse) -> Labels:
    """Return the lungs on the coarse grid, uint8 [z, y, x]: 0 outside, 1 right, 2 left.

    Airways down to the main bronchi are left out; vessels and nodules inside the lungs, and
    nodules up to about 30 mm that touch the chest wall, are left in. All zero when there is no
    lung.
    """
    air = _inner_air(coarse)
    lung = air & ~_airways(coarse, air)
    labels = _two_sides(lung, coarse)
    return _close(labels, coarse)


def _inner_air(coarse: Coarse) -> Mask:
    """Return air that is enclosed by the body: without the room's air and the table's gaps."""
    air = coarse.hu < _LUNG_BELOW_HU
    # Skin folds, the table's shell and clothes are thinner than this; the chest wall is not.
    steps = max(1, round(_SHELL_MM / max(coarse.spacing)))
    # What lies beyond the field of view counts as body: the field may end amid the chest wall.
    core = ndimage.binary_erosion(~air, iterations=steps, border_value=1)
    body = _largest(core)
    body = ndimage.binary_dilation(body, iterations=steps) & ~air
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in body])
    inner: Mask = air & filled
    return inner


def _airways(coarse: Coarse, air: Mask) -> Mask:
    """Grow trachea and main bronchi from the head down, stopping before the lungs."""
    lumen = air & (coarse.hu < _LUMEN_BELOW_HU)
    seed = _trachea_seed(lumen, coarse)
    if seed is None:
        return np.zeros_like(air)
    best = np.zeros_like(air)
    for level in _TREE_LEVELS_HU:
        labels, _ = ndimage.label(air & (coarse.hu < level))
        label = labels[seed]
        if not label:
            continue
        tree = labels == label
        if tree.sum() * coarse.voxel_ml > _AIRWAY_MAX_ML:
            break
        best = tree
    # One voxel more takes the wall, which reads as lung by partial volume.
    tree_and_wall: Mask = ndimage.binary_dilation(best, ndimage.generate_binary_structure(3, 2))
    return tree_and_wall


def _trachea_seed(lumen: Mask, coarse: Coarse) -> tuple[int, int, int] | None:
    """Return a voxel of the trachea: a round hole near the midline that goes on through slices."""
    depth = len(lumen)
    area = coarse.spacing[1] * coarse.spacing[2]
    low, high = _TRACHEA_AREA_MM2
    middle = _midline(coarse)
    for z in range(depth - 1, depth // 2, -1):
        labels, _ = ndimage.label(lumen[z])
        best: tuple[float, tuple[int, int, int]] | None = None
        for index, box in enumerate(ndimage.find_objects(labels), start=1):
            hole = labels[box] == index
            extent = hole.shape[0] * coarse.spacing[1], hole.shape[1] * coarse.spacing[2]
            round_enough = max(extent) < 2.2 * min(extent) and hole.mean() > 0.5
            aside = abs((box[1].start + box[1].stop - 1) / 2 - middle) * coarse.spacing[2]
            if not low <= hole.sum() * area <= high or not round_enough or aside > 40:
                continue
            y, x = np.argwhere(hole)[np.argmin(coarse.hu[z][box][hole])]
            place = (z, int(y) + box[0].start, int(x) + box[1].start)
            if best is None or aside < best[0]:
                best = aside, place
        if best is not None:
            return best[1]
    return None


def _midline(coarse: Coarse) -> float:
    """Return the column of the body's middle."""
    columns = np.flatnonzero((coarse.hu > _LUNG_BELOW_HU).sum(axis=(0, 1)))
    return float(columns.mean()) if columns.size else coarse.hu.shape[2] / 2


def _two_sides(lung: Mask, coarse: Coarse) -> Labels:
    """Label the right and left lung, parting them where they touch.

    A lung that is in several pieces (a lobe behind an effusion) keeps all of them.
    """
    out = np.zeros(lung.shape, np.uint8)
    pieces = _pieces(lung, _LUNG_MIN_ML / coarse.voxel_ml)
    pieces = [piece for piece in pieces if np.median(coarse.hu[piece]) > _GAS_BELOW_HU] or pieces
    if not pieces:
        return out
    middle = _midline(coarse)
    if len(pieces) == 1 or pieces[1].sum() < _SPLIT_SHARE * pieces[0].sum():
        parts = _part(pieces[0], coarse)
        pieces = [*parts, *pieces[1:]]
    if len(pieces) == 1:
        # x runs to the patient's left.
        out[pieces[0]] = LEFT if _centre_x(pieces[0]) > middle else RIGHT
        return out
    # From right to left; the mediastinum is the widest gap between two neighbours.
    pieces.sort(key=_centre_x)
    gaps = np.diff([_centre_x(piece) for piece in pieces])
    for place, piece in enumerate(pieces):
        out[piece] = RIGHT if place <= gaps.argmax() else LEFT
    return out


def _part(piece: Mask, coarse: Coarse) -> list[Mask]:
    """Part two lungs grown together; one piece when it is a single lung.

    In every slice the cut runs from front to back along the brightest way near the middle: the
    mediastinum, and between touching lungs the junction line, which thin pleura leaves at 2 mm.
    """
    columns = np.flatnonzero(piece.any(axis=(0, 1)))
    middle = (columns[0] + columns[-1]) // 2
    reach = int(_JUNCTION_REACH_MM / coarse.spacing[2])
    start = max(0, middle - reach)
    window = slice(start, middle + reach + 1)
    worth = np.clip(coarse.hu[:, :, window], -1000, -200)
    worth = ndimage.gaussian_filter1d(worth, 1.0, axis=0)
    # Dynamic programming over rows, for all slices at once; a step aside costs a little, so that
    # the cut runs straight where nothing is brighter.
    step_cost = 10.0
    back = np.zeros(worth.shape, np.int8)
    total = worth[:, 0].copy()
    for y in range(1, worth.shape[1]):
        padded = np.pad(total, ((0, 0), (1, 1)), constant_values=-np.inf)
        ways = np.stack([padded[:, 1:-1], padded[:, :-2] - step_cost, padded[:, 2:] - step_cost])
        choice = ways.argmax(axis=0)
        back[:, y] = np.array([0, -1, 1], np.int8)[choice]
        total = worth[:, y] + ways.max(axis=0)
    cut = np.empty(worth.shape[:2], np.int64)
    slices = np.arange(len(worth))
    cut[:, -1] = total.argmax(axis=1)
    for y in range(worth.shape[1] - 1, 0, -1):
        cut[:, y - 1] = cut[:, y] + back[slices, y, cut[:, y]]
    on_left = np.arange(piece.shape[2]) > (cut + start)[:, :, None]
    parts = sorted([piece & on_left, piece & ~on_left], key=np.count_nonzero)
    if np.count_nonzero(parts[0]) < _SPLIT_SHARE * np.count_nonzero(parts[1]):
        return [piece]
    return parts[::-1]


def _close(labels: Labels, coarse: Coarse) -> Labels:
    """Close each lung over what belongs inside it: vessels, and dents of the chest wall's side."""
    if not labels.any():
        return labels
    costal = _costal_zone(labels > 0, coarse)
    out = labels.copy()
    for side in (RIGHT, LEFT):
        lung = labels == side
        if not lung.any():
            continue
        closed = _closing(lung, _VESSEL_RADIUS_MM, coarse.spacing)
        closed |= _closing(lung, _PLEURAL_RADIUS_MM, coarse.spacing) & costal
        closed = np.stack([ndimage.binary_fill_holes(plane) for plane in closed])
        out[closed & (labels == 0)] = side
    return out


def _costal_zone(lungs: Mask, coarse: Coarse) -> Mask:
    """Return what lies near the axial outline of both lungs together: the chest wall's side."""
    zone = np.zeros_like(lungs)
    _, height, width = lungs.shape
    for z in range(len(lungs)):
        rows, columns = np.nonzero(lungs[z])
        if rows.size < 3:
            continue
        points = np.stack([columns, rows], axis=1)
        try:
            corners = points[ConvexHull(points).vertices]
        except QhullError:
            continue
        outline = Image.new("1", (width, height))
        ImageDraw.Draw(outline).polygon([(int(x), int(y)) for x, y in corners], fill=1)
        inside = np.asarray(outline)
        depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=coarse.spacing[1:])
        zone[z] = inside & (depth[1:-1, 1:-1] < _COSTAL_DEPTH_MM)
    return zone


def _closing(mask: Mask, radius_mm: float, spacing: tuple[float, float, float]) -> Mask:
    """Close a mask with a ball of a radius in mm, on its own box with room for the ball."""
    margin = [int(np.ceil(radius_mm / mm)) + 1 for mm in spacing]
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    padded = np.pad(mask[box], [(m, m) for m in margin])
    grown = _inside_mm(~padded, spacing) <= radius_mm
    shrunk = _inside_mm(grown, spacing) > radius_mm
    out = np.zeros_like(mask)
    inner = tuple(slice(m, m + n) for m, n in zip(margin, mask[box].shape, strict=True))
    out[box] = shrunk[inner]
    return out | mask


def _inside_mm(mask: Mask, spacing: tuple[float, float, float]) -> npt.NDArray[np.float32]:
    """Return each voxel's distance in mm to the nearest voxel outside the mask; 0 outside."""
    image = sitk.GetImageFromArray((~mask).astype(np.uint8))
    image.SetSpacing([float(mm) for mm in spacing[::-1]])
    distance = sitk.SignedMaurerDistanceMap(
        image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True
    )
    inside: npt.NDArray[np.float32] = np.maximum(sitk.GetArrayFromImage(distance), 0)
    return inside


def _largest(mask: Mask) -> Mask:
    pieces = _pieces(mask, 1)
    return pieces[0] if pieces else mask


def _pieces(mask: Mask, min_voxels: float) -> list[Mask]:
    """Return the connected pieces from the largest on, without those that are too small."""
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    order = np.argsort(-sizes, kind="stable")
    return [labels == index + 1 for index in order[:4] if sizes[index] >= min_voxels]


def _centre_x(mask: Mask) -> float:
    weights = mask.sum(axis=(0, 1))
    return float((weights * np.arange(weights.size)).sum() / weights.sum())
