"""Chromium's DevTools protocol, as much as the tests here need: pages, keys, clicks, what pages say.

https://chromedevtools.github.io/devtools-protocol/ names the methods. There is no driver in between.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, WSMsgType

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import ClientWebSocketResponse

PATIENCE = 15.0
"""Seconds for what the browser or a page is waited for."""

_POLL = 0.05
_KEYS = {
    "Tab": {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
    "Space": {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
}
_SHIFT = 8
_TELL_VIOLATIONS = (
    "document.addEventListener('securitypolicyviolation', "
    "(event) => console.error('policy', event.effectiveDirective, event.blockedURI))"
)


class BrowserError(Exception):
    """The browser has answered a command with an error, or a page's script has thrown."""


@dataclass(frozen=True, slots=True)
class Element:
    """Something in a page, as assistive technology sees it."""

    node: int
    role: str
    name: str


@dataclass
class Page:
    """One tab."""

    _browser: Browser
    _session: str
    target: str
    complaints: list[str] = field(default_factory=list)
    """What went to the console or the browser's log, violations of the page's policy included."""
    requests: dict[str, str] = field(default_factory=dict)
    """What was asked for, by the browser's ids."""
    answers: list[tuple[str, int]] = field(default_factory=list)
    """URL and status of each answer, also of those that the browser kept from the page."""
    dialogs: list[str] = field(default_factory=list)

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the browser's answer to a command about this tab. Raises BrowserError."""
        return await self._browser.send(method, self._session, **params)

    async def start(self) -> None:
        """Listen to what the page has to say."""
        for domain in ("Page", "Runtime", "Log", "DOM", "Accessibility", "Network"):
            await self.send(f"{domain}.enable")
        await self.send("Emulation.setFocusEmulationEnabled", enabled=True)  # as the window in front
        await self.send("Page.addScriptToEvaluateOnNewDocument", source=_TELL_VIOLATIONS)

    async def go(self, url: str) -> None:
        """Open a URL and wait until all of it is there."""
        answer = await self.send("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        # Until the new document is there the old one answers, and says that it is complete.
        await self.wait_for(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited if it is a promise. Raises BrowserError."""
        answer = await self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            userGesture=False,
        )
        if "exceptionDetails" in answer:
            raise BrowserError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Return as soon as the expression is true. Raises AssertionError when it never is."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            with suppress(BrowserError):  # between two documents
                if await self.evaluate(f"!!({expression})"):
                    return
            await asyncio.sleep(_POLL)
        raise AssertionError(f"never: {expression}; complaints: {self.complaints}; page: {await self.text()}")

    async def wait_for_complaint(self, words: str) -> None:
        """Return once the page or the browser complains of something. Raises AssertionError if none does."""
        await self._wait_until(lambda: any(words in complaint for complaint in self.complaints))

    async def wait_for_answers(self, status: int, count: int) -> None:
        """Return once so many answers have this status. Raises AssertionError when they never have."""
        await self._wait_until(lambda: [answer[1] for answer in self.answers].count(status) >= count)

    async def _wait_until(self, is_so: Callable[[], bool]) -> None:
        # The browser tells of what it does a little later than a page can see it.
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            if is_so():
                return
            await asyncio.sleep(_POLL)
        raise AssertionError(f"never: complaints {self.complaints}, answers {self.answers}")

    async def text(self) -> str:
        """Return what a person can read."""
        return str(await self.evaluate("document.body.innerText"))

    async def html(self) -> str:
        """Return the document as it is now."""
        return str(await self.evaluate("document.documentElement.outerHTML"))

    async def elements(self, role: str, name: str | None = None) -> list[Element]:
        """Return the elements with a role, and a name if one is given, in the accessibility tree."""
        root = (await self.send("Runtime.evaluate", expression="document"))["result"]["objectId"]
        params = {"objectId": root, "role": role} | ({} if name is None else {"accessibleName": name})
        nodes = (await self.send("Accessibility.queryAXTree", **params))["nodes"]
        return [
            Element(node["backendDOMNodeId"], role, node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"]
        ]

    async def element(self, role: str, name: str) -> Element:
        """Return the one element with this role and name. Raises AssertionError when there is not one."""
        found = await self.elements(role, name)
        if len(found) != 1:
            names = [element.name for element in await self.elements(role)]
            raise AssertionError(f"{len(found)} of {role} {name!r} among {names}")
        return found[0]

    async def click(self, role: str, name: str) -> None:
        """Click into the middle of an element, as a mouse does."""
        element = await self.element(role, name)
        await self.send("DOM.scrollIntoViewIfNeeded", backendNodeId=element.node)
        quads = (await self.send("DOM.getContentQuads", backendNodeId=element.node))["quads"]
        x, y = sum(quads[0][0::2]) / 4, sum(quads[0][1::2]) / 4
        mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
        await self.send("Input.dispatchMouseEvent", type="mousePressed", **mouse)
        await self.send("Input.dispatchMouseEvent", type="mouseReleased", **mouse)

    async def history(self) -> list[str]:
        """Return the URLs that the tab has been at, also those of pages that did not load."""
        entries = (await self.send("Page.getNavigationHistory"))["entries"]
        return [entry["url"] for entry in entries]

    async def press(self, key: str, *, shift: bool = False) -> None:
        """Press and release a key."""
        params = {**_KEYS[key], "modifiers": _SHIFT if shift else 0}
        await self.send("Input.dispatchKeyEvent", type="keyDown", **params)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **params)

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.send("Input.insertText", text=text)

    async def focused(self) -> str:
        """Return role and name of what has the focus, as in `button Hide credentials`."""
        answer = await self.send("Runtime.evaluate", expression="document.activeElement")
        handle = answer["result"]["objectId"]
        nodes = (await self.send("Accessibility.getPartialAXTree", objectId=handle, fetchRelatives=False))[
            "nodes"
        ]
        role, name = nodes[0].get("role", {}).get("value", ""), nodes[0].get("name", {}).get("value", "")
        return f"{role} {name}".strip()

    async def show_as(self, *, width: int = 1200, height: int = 900, scheme: str = "light") -> None:
        """Give the window a size in CSS pixels, and the system a colour scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.send("Emulation.setDeviceMetricsOverride", **size)
        await self.send("Emulation.setScrollbarsHidden", hidden=True)  # as on a phone
        await self.send(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )

    async def screenshot(self) -> bytes:
        """Return the whole page as a PNG."""
        answer = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def note(self, method: str, params: dict[str, Any]) -> None:
        """Keep what the tests ask for of an event."""
        match method:
            case "Runtime.consoleAPICalled":
                self.complaints.append(f"console: {json.dumps(params['args'])}")
            case "Runtime.exceptionThrown":
                self.complaints.append(f"exception: {json.dumps(params['exceptionDetails'])}")
            case "Log.entryAdded":
                self.complaints.append(f"log: {params['entry']['text']} {params['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests[params["requestId"]] = params["request"]["url"]
            case "Network.responseReceivedExtraInfo":
                url = self.requests.get(params["requestId"], "")
                self.answers.append((url, params["statusCode"]))
            case "Page.javascriptDialogOpening":
                self.dialogs.append(params["message"])


class Browser:
    """A connection to a running Chromium, with a profile of its own that is gone with it."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self.context = ""

    async def send(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Return the browser's answer to a command. Raises BrowserError, and TimeoutError after 15 s."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        command = {"id": number, "method": method, "params": params}
        await self._socket.send_json(command | ({"sessionId": session} if session else {}))
        async with asyncio.timeout(PATIENCE):
            return await answer

    async def listen(self) -> None:
        """Take answers and events until the connection ends."""
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                continue
            content = message.json()
            if "id" in content:
                answer = self._answers.pop(content["id"])
                if answer.done():
                    continue  # whoever asked has given up
                if "error" in content:
                    answer.set_exception(BrowserError(content["error"]["message"]))
                else:
                    answer.set_result(content["result"])
            elif (page := self._pages.get(content.get("sessionId", ""))) is not None:
                page.note(content["method"], content["params"])

    async def open_page(self, url: str = "about:blank") -> Page:
        """Return a new tab that shows a URL."""
        target = (await self.send("Target.createTarget", url="about:blank", browserContextId=self.context))[
            "targetId"
        ]
        page = await self.attach(target)
        await page.show_as()
        if url != "about:blank":
            await page.go(url)
        return page

    async def attach(self, target: str) -> Page:
        """Return the tab with this id, which may have been opened by another."""
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        await page.start()
        return page

    async def opened_by(self, page: Page) -> Page:
        """Return the tab that the only other page has opened, once there is one."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            for tab in await self.tabs():
                if tab["targetId"] != page.target:
                    return await self.attach(tab["targetId"])
            await asyncio.sleep(_POLL)
        raise AssertionError("no tab was opened")

    async def tabs(self) -> list[dict[str, Any]]:
        """Return what is known of each tab of this profile."""
        targets = (await self.send("Target.getTargets"))["targetInfos"]
        return [
            target
            for target in targets
            if target["type"] == "page" and target["browserContextId"] == self.context
        ]

    async def grant(self, *permissions: str) -> None:
        """Let every page do something that it would have to ask for."""
        await self.send(
            "Browser.grantPermissions", permissions=list(permissions), browserContextId=self.context
        )


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Browser]:
    """Talk to the Chromium whose DevTools listen at `url`, in a profile of its own."""
    async with ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        browser = Browser(socket)
        listening = asyncio.create_task(browser.listen())
        try:
            browser.context = (await browser.send("Target.createBrowserContext"))["browserContextId"]
            yield browser
            await browser.send("Target.disposeBrowserContext", browserContextId=browser.context)
        finally:
            listening.cancel()
