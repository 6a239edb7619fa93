"""Users, their passwords and their sessions."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Index, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Mapped, mapped_column

from lungmesh.console.access import (
    ADMINISTRATOR,
    RADIOLOGIST,
    ROLES,
    USER_PATTERN,
    Caller,
    Refusal,
)
from lungmesh.console.settings import ConsoleSettings
from lungmesh.console.store import ConsoleBase
from lungmesh.mesh.db import READS_ONLY

log = logging.getLogger(__name__)

FIRST_USER = "admin"
LEAST_PASSWORD = 12
_MOST_PASSWORD = 256
# Argon2id with the library's parameters (RFC 9106, second recommended option: 64 MiB).
_hasher = PasswordHasher()
# A session is marked as seen at most so often: each mark is a write.
_MARK_SECONDS = 30.0
# Tolerance of wrong passwords: by name and address, by address, by name.
_TIMES_ADDRESS, _TIMES_NAME = 4, 10


class UserRow(ConsoleBase):
    """A person, known here or by the identity provider."""

    __tablename__ = "console_user"
    name: Mapped[str] = mapped_column(primary_key=True)
    # Argon2id; empty for the provider's users.
    password_hash: Mapped[str]
    # JSON lists.
    roles: Mapped[str]
    tenants: Mapped[str]
    language: Mapped[str]
    local: Mapped[bool]
    disabled: Mapped[bool]


class SessionRow(ConsoleBase):
    """A session; the token itself is only in the browser."""

    __tablename__ = "console_session"
    __table_args__ = (Index("console_session_user", "user_name"),)
    token_hash: Mapped[str] = mapped_column(primary_key=True)
    user_name: Mapped[str]
    csrf: Mapped[str]
    # Seconds since 1970.
    created: Mapped[float]
    seen: Mapped[float]
    authenticated: Mapped[float]


class FailureRow(ConsoleBase):
    """A wrong password."""

    __tablename__ = "console_login_failure"
    __table_args__ = (Index("console_login_failure_key", "key", "at"),)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    key: Mapped[str]
    at: Mapped[float]


class Users:
    """The console's users over its own database."""

    def __init__(
        self, sessions: async_sessionmaker[AsyncSession], settings: ConsoleSettings
    ) -> None:
        self._sessions, self._settings = sessions, settings
        # Compared when there is no such user, so that the time does not tell.
        self._nobody = ""
        # Each hash takes 64 MiB.
        self._hashing = asyncio.Semaphore(2)

    async def make_first(self) -> None:
        """Make the first user when there is none, and leave the password in its file (0600)."""
        path = self._settings.first_password_file
        async with self._sessions() as session:
            if await session.scalar(select(func.count()).select_from(UserRow)):
                return
        if path is None:
            if not self._settings.oidc.issuer:
                log.warning(
                    "nobody can sign in: set LUNGMESH_CONSOLE__FIRST_PASSWORD_FILE "
                    "or LUNGMESH_CONSOLE__OIDC__ISSUER"
                )
            return
        password = await asyncio.to_thread(_password_in, path)
        row = UserRow(
            name=FIRST_USER,
            password_hash=await self._hash(password),
            roles=json.dumps([ADMINISTRATOR, RADIOLOGIST]),
            tenants=json.dumps(self._settings.first_tenants),
            language="en",
            local=True,
            disabled=False,
        )
        try:
            async with self._sessions() as session, session.begin():
                session.add(row)
        except IntegrityError:
            # Another process of the console was faster, with the same file.
            return

    async def login(self, name: str, password: str, address: str) -> str:
        """Return the token of a new session.

        Raises Refusal: wrong_login, or too_many wrong ones before.
        """
        name = name[:128]
        await self._check(name, password, address, "wrong_login")
        return await self.open(name)

    async def prove(self, caller: Caller, password: str, address: str) -> None:
        """Check that it is still the user who sits there.

        Raises Refusal: wrong_password, too_many, or login_too_old for a user of the provider.
        """
        if caller.local:
            await self._check(caller.user, password, address, "wrong_password")
        elif time.time() - caller.authenticated > self._settings.fresh_login_seconds:
            raise Refusal("login_too_old")

    async def known(self, name: str) -> bool:
        """Return whether there is such a user."""
        async with self._sessions() as session:
            return await session.get(UserRow, name) is not None

    async def open(self, name: str, authenticated: float | None = None) -> str:
        """Return the token of a new session.

        Parameters
        ----------
        authenticated
            When the user proved who they are, seconds since 1970; None means just now.
        """
        token, now = secrets.token_urlsafe(32), time.time()
        oldest = now - self._settings.session_hours * 3600
        async with self._sessions() as session, session.begin():
            await session.execute(delete(SessionRow).where(SessionRow.created < oldest))
            session.add(
                SessionRow(
                    token_hash=_hash_of(token),
                    user_name=name,
                    csrf=secrets.token_urlsafe(32),
                    created=now,
                    seen=now,
                    authenticated=now if authenticated is None else authenticated,
                )
            )
        return token

    async def caller(self, token: str, used: bool = True) -> Caller | None:
        """Return whose session a token is, None when it holds no longer.

        Parameters
        ----------
        used
            Whether this counts as a request of the user, so that the session is not idle.
        """
        if not token:
            return None
        now, settings = time.time(), self._settings
        async with self._sessions() as session, session.begin():
            await session.connection(execution_options=READS_ONLY)
            # One question: a viewer asks for hundreds of frames.
            found = await session.execute(
                select(SessionRow, UserRow)
                .join(UserRow, UserRow.name == SessionRow.user_name, isouter=True)
                .where(SessionRow.token_hash == _hash_of(token))
            )
            known = found.first()
        if known is None:
            return None
        row: SessionRow = known[0]
        user: UserRow | None = known[1]
        idle = now - row.seen > settings.session_idle_minutes * 60
        old = now - row.created > settings.session_hours * 3600
        mine = SessionRow.token_hash == row.token_hash
        if user is None or user.disabled or idle or old:
            async with self._sessions() as session, session.begin():
                await session.execute(delete(SessionRow).where(mine))
            return None
        if used and now - row.seen > _MARK_SECONDS:
            async with self._sessions() as session, session.begin():
                await session.execute(update(SessionRow).where(mine).values(seen=now))
        return Caller(
            user=user.name,
            roles=frozenset(json.loads(user.roles)),
            tenants=tuple(json.loads(user.tenants)),
            language=user.language,
            local=user.local,
            csrf=row.csrf,
            token_hash=row.token_hash,
            authenticated=row.authenticated,
            expires=row.created + settings.session_hours * 3600,
        )

    async def close(self, caller: Caller) -> None:
        """End a session."""
        async with self._sessions() as session, session.begin():
            await session.execute(
                delete(SessionRow).where(SessionRow.token_hash == caller.token_hash)
            )

    async def change_password(self, caller: Caller, old: str, new: str, address: str) -> None:
        """Give the user another password and end their other sessions.

        Raises Refusal: wrong_password, too_many, bad_request for a new one that is too short.
        """
        if not caller.local:
            raise Refusal("not_allowed", "Your password is kept by your identity provider.")
        await self._check(caller.user, old, address, "wrong_password")
        hashed = await self._hash(_strong(new))
        async with self._sessions() as session, session.begin():
            user = await session.get_one(UserRow, caller.user)
            user.password_hash = hashed
            await session.execute(
                delete(SessionRow).where(
                    SessionRow.user_name == caller.user,
                    SessionRow.token_hash != caller.token_hash,
                )
            )

    async def choose_language(self, caller: Caller, language: str) -> None:
        """Keep the language that the user reads."""
        async with self._sessions() as session, session.begin():
            (await session.get_one(UserRow, caller.user)).language = language

    async def listed(self) -> Sequence[UserRow]:
        """Return all users by name."""
        async with self._sessions() as session:
            return (await session.scalars(select(UserRow).order_by(UserRow.name))).all()

    async def put(
        self, name: str, roles: list[str], tenants: list[str], disabled: bool, password: str | None
    ) -> None:
        """Make or change a user; a disabled one's sessions end, a new password ends them too.

        Raises Refusal: bad_request, last_administrator.
        """
        unknown = set(roles) - set(ROLES)
        if not re.fullmatch(USER_PATTERN, name) or unknown:
            raise Refusal("bad_request", "The user's name or a role is not valid.")
        hashed = await self._hash(_strong(password)) if password is not None else None
        async with self._sessions() as session, session.begin():
            user = await session.get(UserRow, name)
            if user is None:
                if hashed is None:
                    raise Refusal("bad_request", "A new user needs a password.")
                user = UserRow(name=name, password_hash="", language="en", local=True)
                session.add(user)
            user.roles, user.tenants = json.dumps(sorted(set(roles))), json.dumps(tenants)
            user.disabled = disabled
            if hashed is not None:
                user.password_hash, user.local = hashed, True
            await session.flush()
            rows = (await session.scalars(select(UserRow).where(~UserRow.disabled))).all()
            if not any(ADMINISTRATOR in json.loads(row.roles) for row in rows):
                raise Refusal("last_administrator")
            if disabled or hashed is not None:
                await session.execute(delete(SessionRow).where(SessionRow.user_name == name))

    async def from_provider(self, name: str, roles: list[str], tenants: list[str]) -> None:
        """Keep what the identity provider says of a user.

        Raises Refusal: provider_refused, when the name is a local user's or the user is disabled.
        """
        async with self._sessions() as session, session.begin():
            user = await session.get(UserRow, name)
            if user is None:
                user = UserRow(
                    name=name,
                    password_hash="",
                    language="en",
                    local=False,
                    disabled=False,
                )
                session.add(user)
            if user.local or user.disabled:
                raise Refusal("provider_refused")
            user.roles, user.tenants = json.dumps(sorted(roles)), json.dumps(sorted(tenants))

    async def _check(self, name: str, password: str, address: str, code: str) -> None:
        keys = {
            f"both:{name}:{address}": self._settings.login_failures,
            f"address:{address}": self._settings.login_failures * _TIMES_ADDRESS,
            f"name:{name}": self._settings.login_failures * _TIMES_NAME,
        }
        since = time.time() - self._settings.login_window_minutes * 60
        async with self._sessions() as session:
            counts = await session.execute(
                select(FailureRow.key, func.count())
                .where(FailureRow.key.in_(keys), FailureRow.at > since)
                .group_by(FailureRow.key)
            )
            if any(count >= keys[key] for key, count in counts):
                raise Refusal(
                    "too_many", retry_seconds=int(self._settings.login_window_minutes * 60)
                )
            user = await session.get(UserRow, name)
        known = user is not None and user.local and not user.disabled
        self._nobody = self._nobody or await self._hash(secrets.token_urlsafe(16))
        hashed = user.password_hash if user is not None and known else self._nobody
        right = await self._matches(hashed, password) and known
        async with self._sessions() as session, session.begin():
            if right:
                both = f"both:{name}:{address}"
                await session.execute(delete(FailureRow).where(FailureRow.key == both))
            else:
                await session.execute(delete(FailureRow).where(FailureRow.at <= since))
                session.add_all(FailureRow(key=key, at=time.time()) for key in keys)
        if not right:
            raise Refusal(code)

    async def _matches(self, hashed: str, password: str) -> bool:
        if len(password) > _MOST_PASSWORD:
            return False
        try:
            async with self._hashing:
                return await asyncio.to_thread(_hasher.verify, hashed, password)
        except (VerifyMismatchError, InvalidHashError):
            return False

    async def _hash(self, password: str) -> str:
        async with self._hashing:
            return await asyncio.to_thread(_hasher.hash, password)


def _strong(password: str) -> str:
    if not LEAST_PASSWORD <= len(password) <= _MOST_PASSWORD:
        raise Refusal("bad_request", f"A password has {LEAST_PASSWORD} or more characters.")
    return password


def _hash_of(token: str) -> str:
    # A token has 256 random bits: a plain hash is enough.
    return hashlib.sha256(token.encode()).hexdigest()


def _password_in(path: Path) -> str:
    """Return the password in the file, which is made when it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    password = secrets.token_urlsafe(18)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{password}\n")
    return password
