"""One answer of several tasks, while they run."""

from __future__ import annotations

from graph.compose import Composer
from graph.plan import Plan, Ref, Task
from graph.run import Outcome
from graph.types import Delta, Reply, json_payload, text_payload

PLAN = Plan(tuple(Task(id, f"node-{id}", {"prompt": f"ask {id}"}) for id in ("a", "b", "c")), "c")
ONE = Plan((Task("a", "node-a", {"prompt": "ask"}),), "a")


class Page:
    """A composer and what it wrote."""

    def __init__(self, plan: Plan = PLAN) -> None:
        self.written: list[tuple[str, bool]] = []
        self.composer = Composer(plan, self._emit)
        self.outcomes: list[Outcome] = []

    async def _emit(self, text: str, replaces: bool) -> None:
        self.written.append((text, replaces))

    async def say(self, task: str, text: str, *, reset: bool = False) -> None:
        await self.composer.delta(task, Delta(text=text, reset=reset))

    async def end(self, task: str, reply: Reply | None = None, error: str | None = None) -> None:
        described = {"message": error} if error else None
        outcome = Outcome(task, f"node-{task}", "failed" if error else "ok", reply, described)
        self.outcomes.append(outcome)
        await self.composer.finished(outcome)

    async def close(self) -> str:
        return await self.composer.close(self.outcomes)

    def text(self) -> str:
        text = ""
        for piece, replaces in self.written:
            text = piece if replaces else text + piece
        return text


def reply(text: str) -> Reply:
    return Reply(text_payload(text), None, "stop", "n", "m")


async def test_one_task_needs_no_heading() -> None:
    page = Page(ONE)
    await page.say("a", "hello")
    await page.end("a", reply("hello"))
    assert await page.close() == page.text() == "hello"


async def test_the_first_streams_and_the_others_wait_their_turn() -> None:
    page = Page()
    await page.say("b", "from b")
    assert page.written == []
    await page.say("a", "from ")
    await page.say("a", "a")
    assert page.text() == "### node-a: ask a\n\nfrom a"
    await page.end("c", reply("from c"))
    await page.end("a")
    await page.say("b", "!")
    await page.end("b")
    sections = [f"### node-{id}: ask {id}\n\nfrom {id}" for id in "abc"]
    sections[1] += "!"
    assert await page.close() == page.text() == "\n\n".join(sections)


async def test_a_reply_that_was_not_streamed_is_written_whole() -> None:
    page = Page(ONE)
    await page.end("a", Reply(json_payload({"x": 1}), None, "stop", "n", "m"))
    assert await page.close() == page.text() == '{"x": 1}'


async def test_a_reset_takes_back_only_that_tasks_text() -> None:
    page = Page()
    await page.say("a", "from a")
    await page.end("a")
    await page.say("b", "wrong")
    await page.say("b", "right", reset=True)
    await page.end("b")
    await page.end("c", reply("c"))
    text = await page.close()
    assert text == page.text()
    assert "from a" in text and "right" in text and "wrong" not in text
    assert sum(replaces for _, replaces in page.written) == 1


async def test_a_reset_behind_the_turn_is_silent() -> None:
    page = Page()
    await page.say("b", "wrong")
    await page.say("b", "right", reset=True)
    assert page.written == []


async def test_what_is_missing_is_named_at_the_end() -> None:
    page = Page()
    await page.say("a", "half")
    await page.end("a", error="it broke")
    await page.end("b", reply("from b"))
    await page.end("c", error="no power")
    text = await page.close()
    assert text == page.text()
    assert text.endswith("Missing from this answer:\n- node-a: ask a: it broke\n- node-c: ask c: no power")


async def test_calls_of_one_tool_are_told_apart_by_their_values() -> None:
    tasks = (
        Task("a", "find", {"place": "Oslo"}),
        Task("b", "sunrise", {"latitude": Ref("a", ("lat",))}),
        Task("c", "route", {"origin": "Rome", "legs": 2}),
        Task("d", "join", {"one": Ref("a"), "two": Ref("c")}),
    )
    page = Page(Plan(tasks, "d", answer=("b", "c", "d")))
    for id in "abcd":
        await page.end(id, reply(f"of {id}"))
    assert page.text() == "### sunrise: Oslo\n\nof b\n\n### route: origin Rome, legs 2\n\nof c\n\n### join\n\nof d"


async def test_long_prompts_are_shortened_in_headings() -> None:
    page = Page(Plan((Task("a", "n", {"prompt": "x" * 200}), Task("b", "n", {})), "a"))
    await page.say("a", "t")
    assert page.text() == f"### n: {'x' * 77}…\n\nt"
    await page.end("a")
    await page.say("b", "u")
    assert page.text().endswith("\n\n### n\n\nu")
