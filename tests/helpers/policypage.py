"""A page of somebody's app that calls through the gateway, under whatever SDP policy holds."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web
from playwright.async_api import Page

from helpers.chromium import ALLOW_MICROPHONE, chromium

# It says what it sees, and shows refusals in words.
_CLIENT: Final = """
async ({gateway, key, model, kinds, gather, sections, stun, only, append}) => {
  const post = (path, credential, type, body) => fetch(gateway + path, {
    method: "POST", headers: {"Authorization": `Bearer ${credential}`, "Content-Type": type}, body,
  });
  const minted = await post("/v1/realtime/client_secrets", key, "application/json",
    JSON.stringify({model}));
  const token = (await minted.json()).value;
  const pc = window.pc = new RTCPeerConnection({
    iceServers: stun ? [{urls: stun}] : [],
  });
  const media = await navigator.mediaDevices.getUserMedia({
    audio: true, video: kinds.includes("video"),
  });
  const add = {
    audio: () => pc.addTrack(media.getAudioTracks()[0], media),
    video: () => pc.addTrack(media.getVideoTracks()[0], media),
  };
  for (const kind of kinds) add[kind]();
  if (only) pc.getTransceivers()[0].setCodecPreferences(
    RTCRtpReceiver.getCapabilities("audio").codecs.filter((codec) => codec.mimeType === only));
  for (let i = 0; i < sections; i++) pc.addTransceiver("audio", {direction: "recvonly"});
  const player = new Audio();
  pc.ontrack = (event) => {
    if (event.track.kind === "audio") { player.srcObject = event.streams[0]; player.play(); }
  };
  window.received = [];
  const dc = pc.createDataChannel("oai-events");
  dc.onmessage = (message) => window.received.push(JSON.parse(message.data).type);
  await pc.setLocalDescription();
  if (gather) await new Promise((resolve) => {
    // From networks without a way to the STUN server, Chromium asks it for 40 s.
    const isEnough = () => pc.iceGatheringState === "complete" ||
      pc.localDescription.sdp.includes(" typ srflx ");
    pc.onicecandidate = pc.onicegatheringstatechange = () => isEnough() && resolve();
    if (isEnough()) resolve();
  });
  const answer = await post("/v1/realtime/calls", token, "application/sdp",
    pc.localDescription.sdp + append);
  const body = await answer.text();
  document.body.innerText = answer.ok ? "calling" : JSON.parse(body).error.message;
  if (answer.ok) await pc.setRemoteDescription({type: "answer", sdp: body});
  return {status: answer.status, location: answer.headers.get("location"), answer: body};
}
"""


@asynccontextmanager
async def app_page() -> AsyncIterator[Page]:
    """Open an empty page in a Chromium with a microphone."""

    async def empty(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>app</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", empty)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with chromium(ALLOW_MICROPHONE) as browser:
            page = await browser.new_page()
            await page.goto(f"http://localhost:{runner.addresses[0][1]}/")
            yield page
    finally:
        await runner.cleanup()


async def call(
    page: Page, gateway: str, key: str, model: str, offers: Mapping[str, Any]
) -> dict[str, Any]:
    """Let the page call, and return what it saw: ``status``, ``location`` and ``answer``.

    Args:
        page: From `app_page`.
        gateway: Where the API is.
        key: A virtual key.
        model: The model group.
        offers: What differs from a page that only talks: ``kinds`` of tracks in their order,
            ``gather`` (wait for candidates, with STUN for a reflexive one), ``sections`` (further
            ones that listen), ``stun`` (a server's URL), ``only`` (a codec's MIME type),
            ``append`` (lines to the offer).
    """
    arguments = {"kinds": ["audio"], "gather": False, "sections": 0, "stun": None}
    arguments |= {"only": None, "append": "", **offers}
    result: dict[str, Any] = await page.evaluate(
        _CLIENT, {"gateway": gateway, "key": key, "model": model, **arguments}
    )
    return result
