"""Well-formed requests to a listener for containers, each with the status that the manual promises for it."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.standins.wire import LIFE_HEADER, ROLES_PATH, TOKEN_HEADER, TOKEN_PATH
from tests.web.questions import METHODS, ODD, Question, dresses, framed, spelled

PATH = "/v1/credentials"
HEADER = "Authorization"

_NOT_THERE = st.sampled_from(["/", "/v1", PATH + "/x", "/v2/credentials", ROLES_PATH, TOKEN_PATH])


@st.composite
def container_questions(draw: st.DrawFn, tokens: tuple[str, ...]) -> Question:
    """Draw a request; `tokens` are good at this listener, for this caller."""
    method = draw(METHODS)
    what = draw(st.sampled_from(["container", "container", ODD, "elsewhere"]))
    path = draw(_NOT_THERE) if what == "elsewhere" else PATH
    token = draw(st.sampled_from(tokens))
    faulty = [("",), (token, token), (f"Bearer {token}",), (token + "x",), (token[:-1],), (token.swapcase(),)]
    given = draw(st.one_of(st.just(()), st.just((token,)), st.just((token,)), st.sampled_from(faulty)))
    said = [*((HEADER, each) for each in given), (TOKEN_HEADER, token), (LIFE_HEADER, "60")]
    dress = draw(dresses(without=HEADER))
    data, is_last = draw(framed(method, draw(spelled(path, is_spoilt=what == ODD)), dress, said))
    status = 200 if given == (token,) else 401
    if what != "container":
        status = 404
    elif method not in ("GET", "HEAD"):
        status = 405
    return Question(method, data, what, 403 if dress.is_refused else status, is_last)
