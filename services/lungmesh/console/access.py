"""Who may do what, and how the console says no."""

from __future__ import annotations

from dataclasses import dataclass

RADIOLOGIST, NURSE, OPERATOR, ADMINISTRATOR = "radiologist", "nurse", "operator", "administrator"
ROLES = (RADIOLOGIST, NURSE, OPERATOR, ADMINISTRATOR)
READERS = frozenset({RADIOLOGIST, NURSE})
LISTERS = READERS | {OPERATOR}
SIGNERS = frozenset({RADIOLOGIST})
OPERATORS = frozenset({OPERATOR})
ADMINISTRATORS = frozenset({ADMINISTRATOR})
ANYONE = frozenset(ROLES)
# The author of a correction, as the protos want it.
USER_PATTERN = r"[A-Za-z0-9_.@-]{1,128}"


@dataclass(frozen=True)
class Caller:
    """Who sends a request, by a session that holds.

    Attributes
    ----------
    tenants
        Whose studies they may see.
    local
        Whether the password is kept here; else the provider's login counts.
    authenticated, expires
        When they last proved who they are, and when the session ends in any case, seconds since
        1970.
    """

    user: str
    roles: frozenset[str]
    tenants: tuple[str, ...]
    language: str
    local: bool
    csrf: str
    token_hash: str
    authenticated: float
    expires: float


# Code: HTTP status, and what people read.
_REFUSALS: dict[str, tuple[int, str, str]] = {
    "no_session": (401, "Sign in first.", "请先登录。"),
    "wrong_login": (401, "The name or the password is wrong.", "用户名或密码错误。"),
    "wrong_password": (401, "The password is wrong.", "密码错误。"),
    "login_too_old": (
        401,
        "Sign in with your provider once more, then sign.",
        "请通过身份提供方重新登录后再签名。",
    ),
    "provider_refused": (
        401,
        "The identity provider's answer was not accepted.",
        "身份提供方的应答未被接受。",
    ),
    "not_allowed": (403, "Your role does not allow this.", "您的角色无权执行此操作。"),
    "wrong_tenant": (403, "You have no access to this tenant.", "您无权访问该机构。"),
    "no_csrf": (
        403,
        "The request has no valid CSRF token: load the page again.",
        "请求缺少有效的 CSRF 令牌,请重新加载页面。",
    ),
    "wrong_origin": (403, "The request comes from another page.", "请求来自其他网页。"),
    "not_found": (404, "There is no such thing here.", "未找到。"),
    "not_json": (400, "Send a JSON object.", "请发送 JSON 对象。"),
    "bad_request": (400, "The request is not as the API wants it.", "请求不符合接口要求。"),
    "bad_host": (400, "The host of the request is not ours.", "请求的主机名无效。"),
    "method_not_allowed": (405, "This method is not taken here.", "不支持此请求方法。"),
    "not_acceptable": (
        406,
        "None of the accepted media types can be given.",
        "无法提供所要求的媒体类型。",
    ),
    "already_said": (
        409,
        "This correction was sent before with other words.",
        "该修订编号已用于内容不同的修订。",
    ),
    "already_signed": (409, "This edition is signed.", "该版本已签名。"),
    "report_not_ready": (
        409,
        "The report of the newest edition is not written yet.",
        "最新版本的报告尚未生成。",
    ),
    "edition_changed": (
        409,
        "There is another edition now: read it first.",
        "已有更新的版本,请先阅读。",
    ),
    "last_administrator": (
        409,
        "The last administrator cannot be taken away.",
        "不能移除最后一名管理员。",
    ),
    "too_large": (413, "The request is too large.", "请求过大。"),
    "too_many": (
        429,
        "Too many wrong passwords: wait and try again.",
        "密码错误次数过多,请稍后再试。",
    ),
    "defect": (500, "The console met an unexpected error.", "控制台发生意外错误。"),
    "unavailable": (
        503,
        "A part of the mesh is away: try again.",
        "系统的某个部分暂不可用,请重试。",
    ),
}


class Refusal(Exception):
    """The console's no, with a code of the list above.

    Parameters
    ----------
    reason
        A sentence of another service that says more; in English.
    retry_seconds
        When it makes sense to try again.
    """

    def __init__(self, code: str, reason: str = "", retry_seconds: int = 0) -> None:
        super().__init__(code)
        self.code, self.reason, self.retry_seconds = code, reason, retry_seconds
        self.status, english, self.message_zh = _REFUSALS[code]
        self.message_en = reason or english

    def body(self) -> dict[str, str]:
        """Return what the page gets."""
        return {
            "error": self.code,
            "message_en": self.message_en,
            "message_zh": self.message_zh,
        }
