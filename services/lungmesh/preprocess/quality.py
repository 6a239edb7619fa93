"""Is the scan good enough to read? Each breach of CLINICAL section 10 is a named finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset

from lungmesh.mesh.geometry import Grid
from lungmesh.preprocess.findings import Finding, Severity
from lungmesh.preprocess.kernels import KernelKind, kernel_kind
from lungmesh.preprocess.series import is_original, kernel_name

# Screening limits, CLINICAL section 10 (ACR-STR practice parameter for lung cancer screening CT).
PREFERRED_THICKNESS_MM = 1.25
MAX_THICKNESS_MM = 2.5
# Thicker slices hide nodules of 6 mm by partial volume: not read at all.
REFUSED_THICKNESS_MM = 5.0
KVP_RANGE = (100.0, 140.0)
MAX_CTDI_VOL_MGY = 3.0
MIN_MATRIX = 512
# Lung volumes of adults at full breath lie between about 2 and 9 l.
MIN_LUNG_ML, MAX_LUNG_ML = 1000.0, 10000.0
# Below this no lung was found that could be read.
NO_LUNG_ML = 300.0
# Share of both lungs that the smaller one has at least; the left normally has 45 %.
MIN_LUNG_SHARE = 0.15
# Lung area on the first or last slice beyond which the lungs go on outside the scan, mm²; the
# apices and recesses end in less.
MAX_CUT_AREA_MM2 = 1500.0
# Noise in soft tissue, HU: above that of the two real scans (14 and 27), on which the networks were
# judged; at twice theirs CPM fell by 0.01 (bench/robustness.py, simulated).
MAX_NOISE_HU = 28.0


@dataclass(frozen=True)
class LungFacts:
    """What the lung mask says of the scan: volumes in ml, cut areas in mm²."""

    right_ml: float
    left_ml: float
    # Lung area on the first or the last slice, whichever is larger.
    end_area_mm2: float
    # Lung area on the sides of the images.
    side_area_mm2: float

    @property
    def total_ml(self) -> float:
        """Volume of both lungs, ml."""
        return self.right_ml + self.left_ml


def judge_headers(headers: Sequence[Dataset], grid: Grid) -> list[Finding]:
    """Return what the slices' headers and the grid say against the scan."""
    first = headers[0]
    return [finding for check in _CHECKS for finding in check(first, headers, grid)]


def judge_noise(noise_hu: float) -> list[Finding]:
    """Return what the noise in soft tissue, HU, says against the scan."""
    if noise_hu <= MAX_NOISE_HU:
        return []
    return [
        Finding(
            "noise",
            Severity.WARN,
            f"The image is noisy ({noise_hu:.0f} HU in soft tissue, limit {MAX_NOISE_HU:g}): "
            "small and faint nodules may be missed.",
            f"图像噪声较大（软组织 {noise_hu:.0f} HU，上限 {MAX_NOISE_HU:g}）："
            "小结节及淡薄结节可能漏检。",
        )
    ]


def judge_lungs(lungs: LungFacts) -> list[Finding]:
    """Return what is implausible about the lungs that were found."""
    total = lungs.total_ml
    findings: list[Finding] = []
    if total < NO_LUNG_ML:
        return [
            Finding(
                "no_lungs",
                Severity.REFUSE,
                f"No lungs were found ({total:.0f} ml): send a chest CT that shows both lungs.",
                f"未找到肺（{total:.0f} ml）：请发送包含双肺的胸部 CT。",
            )
        ]
    if not MIN_LUNG_ML <= total <= MAX_LUNG_ML:
        findings.append(
            Finding(
                "lung_volume",
                Severity.WARN,
                f"The lungs measure {total / 1000:.1f} l, outside 1 to 10 l.",
                f"肺容积 {total / 1000:.1f} l，超出 1 至 10 l。",
            )
        )
    if min(lungs.right_ml, lungs.left_ml) < MIN_LUNG_SHARE * total:
        side_en, side_zh = ("left", "左") if lungs.left_ml < lungs.right_ml else ("right", "右")
        findings.append(
            Finding(
                "one_lung",
                Severity.WARN,
                f"The {side_en} lung was hardly found: nodules in it may be missed.",
                f"{side_zh}肺几乎未识别，其中结节可能漏检。",
            )
        )
    if max(lungs.end_area_mm2, lungs.side_area_mm2) > MAX_CUT_AREA_MM2:
        findings.append(
            Finding(
                "lungs_cut_off",
                Severity.WARN,
                "The lungs reach the border of the scan: parts of them were not imaged.",
                "肺部到达扫描边界，部分肺组织未成像。",
            )
        )
    return findings


def number(header: Dataset, keyword: str) -> float | None:
    """Return a header's number, None when it is missing or not a number."""
    try:
        value = header.get(keyword)
        return None if value in (None, "") else float(value)
    except (ValueError, TypeError):
        return None


def _thickness(first: Dataset, headers: Sequence[Dataset], grid: Grid) -> Iterator[Finding]:
    thickness = number(first, "SliceThickness")
    if thickness is None:
        yield Finding(
            "slice_thickness",
            Severity.NOTE,
            "The headers do not state the slice thickness.",
            "图像未标明层厚。",
        )
        thickness = grid.spacing[2]
    if thickness > PREFERRED_THICKNESS_MM:
        refused = thickness > REFUSED_THICKNESS_MM
        severity = Severity.WARN if thickness > MAX_THICKNESS_MM else Severity.NOTE
        limit = PREFERRED_THICKNESS_MM if thickness <= MAX_THICKNESS_MM else MAX_THICKNESS_MM
        yield Finding(
            "slice_thickness",
            Severity.REFUSE if refused else severity,
            f"Slices of {thickness:g} mm are thicker than {limit:g} mm"
            + (": send a thinner reconstruction." if refused else "; small nodules may be missed."),
            f"层厚 {thickness:g} mm，超过 {limit:g} mm"
            + ("：请发送更薄的重建。" if refused else "，小结节可能漏检。"),
        )
    if grid.spacing[2] > thickness * 1.01:
        refused = grid.spacing[2] > REFUSED_THICKNESS_MM * 1.01
        yield Finding(
            "slice_gap",
            Severity.REFUSE if refused else Severity.WARN,
            f"Slices lie {grid.spacing[2]:.2f} mm apart but are {thickness:g} mm thick"
            + (
                ": send a reconstruction without gaps." if refused else "; nodules may lie between."
            ),
            f"层间距 {grid.spacing[2]:.2f} mm，大于层厚 {thickness:g} mm"
            + ("：请发送无间隔的重建。" if refused else "，层间可能遗漏结节。"),
        )


def _technique(first: Dataset, headers: Sequence[Dataset], grid: Grid) -> Iterator[Finding]:
    kvp = number(first, "KVP")
    if kvp is None:
        yield Finding(
            "tube_voltage",
            Severity.NOTE,
            "The headers do not state the tube voltage.",
            "图像未标明管电压。",
        )
    elif not KVP_RANGE[0] <= kvp <= KVP_RANGE[1]:
        yield Finding(
            "tube_voltage",
            Severity.WARN,
            f"The tube voltage of {kvp:g} kV is outside 100 to 140 kV.",
            f"管电压 {kvp:g} kV，超出 100 至 140 kV。",
        )
    dose = number(first, "CTDIvol")
    if dose is not None and dose > MAX_CTDI_VOL_MGY:
        yield Finding(
            "dose",
            Severity.NOTE,
            f"CTDIvol {dose:.1f} mGy is above the 3.0 mGy of a screening CT.",
            f"CTDIvol {dose:.1f} mGy，高于筛查 CT 的 3.0 mGy。",
        )
    if min(grid.size[:2]) < MIN_MATRIX:
        yield Finding(
            "matrix",
            Severity.WARN,
            f"The matrix of {grid.size[0]} x {grid.size[1]} is below 512 x 512.",
            f"矩阵 {grid.size[0]} x {grid.size[1]}，小于 512 x 512。",
        )
    if kernel_kind(kernel_name(first)) in (KernelKind.UNKNOWN, KernelKind.OTHER):
        yield Finding(
            "kernel",
            Severity.NOTE,
            "The reconstruction kernel is not known as a lung or soft-tissue kernel.",
            "重建卷积核未知是否为肺或软组织核。",
        )


def _positioning(first: Dataset, headers: Sequence[Dataset], grid: Grid) -> Iterator[Finding]:
    if not first.get("PatientPosition"):
        yield Finding(
            "patient_position",
            Severity.NOTE,
            "The headers do not state the patient position; sides are taken from the orientation.",
            "图像未标明体位，左右依图像方向判定。",
        )
    tilt = number(first, "GantryDetectorTilt")
    if tilt:
        # A shear is found in the positions; here the tilt was already undone by the scanner.
        yield Finding(
            "gantry_tilt",
            Severity.NOTE,
            f"The headers state a gantry tilt of {tilt:g} degrees; the slices are not sheared.",
            f"图像标明机架倾斜 {tilt:g} 度，但层面未错切。",
        )
    if len({str(header.get("AcquisitionNumber") or "") for header in headers}) > 1:
        yield Finding(
            "several_acquisitions",
            Severity.WARN,
            "The series holds more than one acquisition: it may not be one breath-hold.",
            "序列包含多次采集，可能不是一次屏气。",
        )


def _origin(first: Dataset, headers: Sequence[Dataset], grid: Grid) -> Iterator[Finding]:
    if not all(is_original(header) for header in headers):
        yield Finding(
            "derived_images",
            Severity.WARN,
            "Only derived images came; sizes and densities may differ from the original series.",
            "仅有派生图像，大小与密度可能与原始序列不同。",
        )
    if any(header.get("LossyImageCompression") == "01" for header in headers):
        yield Finding(
            "lossy_compression",
            Severity.WARN,
            "The images were compressed with loss; faint nodules may have changed.",
            "图像经有损压缩，淡薄结节可能改变。",
        )
    rescale_type = str(first.get("RescaleType") or "HU").strip().upper()
    if rescale_type != "HU":
        yield Finding(
            "rescale_type",
            Severity.WARN,
            "The headers do not call the pixel values Hounsfield units; densities may be wrong.",
            "图像未声明像素值为 HU，密度可能不准。",
        )


_CHECKS: tuple[Callable[[Dataset, Sequence[Dataset], Grid], Iterator[Finding]], ...] = (
    _thickness,
    _technique,
    _positioning,
    _origin,
)
