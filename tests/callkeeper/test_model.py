from callkeeper.model import Tokens


def test_tokens_add_up_by_kind() -> None:
    """Two amounts make one, each kind by itself."""
    one = Tokens(text_in=1, cached_audio_in=2, audio_out=3, seconds=0.5)
    other = Tokens(text_in=10, image_in=4, seconds=1.0)
    assert one + other == Tokens(
        text_in=11, image_in=4, cached_audio_in=2, audio_out=3, seconds=1.5
    )
