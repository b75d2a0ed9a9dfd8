"""A web application that knows who is online: FastAPI with one `StatusWatcher` for all requests.

Run it beside a broker and a bridge (pip install fastapi uvicorn):

    BROKER=mqtt://127.0.0.1:1883 uvicorn --app-dir examples fastapi_app:app

GET /users/alice is the status of one user, GET /online the names of those who are online.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException

from mqtt_presence import aio

users = aio.StatusWatcher(os.environ.get("BROKER", "mqtt://127.0.0.1:1883"))


@asynccontextmanager
async def connected(_app: FastAPI) -> AsyncIterator[None]:
    await users.connect(wait=False)  # the application starts without the broker, too
    yield
    await users.close()


app = FastAPI(lifespan=connected)


@app.get("/online")
async def online() -> list[str]:
    return sorted(user_id for user_id, user in users.items() if user.online)


@app.get("/users/{user_id}")
async def user(user_id: str) -> dict[str, Any]:
    if user_id not in users:
        raise HTTPException(503 if users.stale else 404, "unknown user")
    return users[user_id].to_dict()
