import pytest

from emulator.vad import Activity, SpeechStarted, SpeechStopped, VoiceActivity

LOUD, QUIET = 0.05, 0.001


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        # Realistic
        pytest.param(
            [(QUIET, 10), (LOUD, 20), (QUIET, 30)],
            [SpeechStarted(200), SpeechStopped(600, 400)],
            id="one-phrase",
        ),
        pytest.param(
            [(LOUD, 10), (QUIET, 10), (LOUD, 10), (QUIET, 25)],
            [SpeechStarted(0), SpeechStopped(600, 600)],
            id="short-pause-inside",
        ),
        pytest.param([(QUIET, 100)], [], id="silence"),
        pytest.param([(LOUD, 2), (QUIET, 23)] * 4, [], id="beeps-of-a-fake-microphone"),
        # Synthetic
        pytest.param([(LOUD, 5)], [], id="just-too-short"),
        pytest.param([(LOUD, 6)], [SpeechStarted(0)], id="just-long-enough"),
        pytest.param([(LOUD, 6), (QUIET, 24)], [SpeechStarted(0)], id="not-over-yet"),
    ],
)
def test_speech_is_what_is_loud_for_long_enough(
    frames: list[tuple[float, int]], expected: list[Activity]
) -> None:
    """Frames of 20 ms, and 500 ms of silence to end a turn."""
    voice_activity = VoiceActivity()
    found = [
        activity
        for loudness, count in frames
        for _ in range(count)
        if (activity := voice_activity.push(loudness, 20, silence_ms=500)) is not None
    ]
    assert found == expected
