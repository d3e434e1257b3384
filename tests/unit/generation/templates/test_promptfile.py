"""`.prompt` files: files of people are read, and what is serialized is read back exactly (behaviour.md §9, §22)."""

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.generation.projects.versions import canonical_json
from services.generation.templates.promptfile import MAX_CHARACTERS, deserialize, serialize
from shared.contracts.chat import (
    ChatMessage,
    FunctionCall,
    Image,
    ImageUrl,
    InlineTool,
    LinkedTool,
    ResponseFormat,
    Text,
    ToolCall,
)
from shared.contracts.generation.projects import ModelConfig
from shared.errors import Invalid

PIECES = [
    "", " ", "  ", "\t", "\n", "\n\n", "\r", "\r\n", "a", "Hello.", "{{ name }}", "<", ">", "&", '"', "'", "/", "---",
    "\n---\n", "<system>", "</system>", "</user>", "<user", "<tool", "<tool_call />", "<text>", "</text>", "<image",
    "<div>", "</div>", "<p id='", "</p>",
    "&lt;", "&amp;lt;user>", "&lt;user>", "&amp;", "&quot;", "&#10;", "amp;", "lt;", "quot;", "user", "text",
    "# x", ": ", "- a", "[", "]", "{", "}", "null", "yes", "1e5", "!tag", "*a", "&a", "%", "@", "`", "\\", "\\n",
    "\x00", "\x7f", "\x85", "\u2028", "\ufeff", "\xa0", "é", "😀", "\uffff", "\x0b", "\x0c", "\x1c",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.sampled_from([10**40, -0.0, 1e300, 1e16, 5e-324]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECT = st.dictionaries(TEXT, JSON, max_size=3)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


NUMBER = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2, 2)
PART = st.builds(Text, text=TEXT) | st.builds(
    Image, image_url=st.builds(ImageUrl, url=TEXT, detail=st.sampled_from([None, "high", "low", "auto"]))
)
FUNCTION = st.builds(FunctionCall, name=TEXT, arguments=maybe(TEXT | st.just('{"city": "Oslo"}')))
MESSAGE = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["system", "user", "assistant"]),
        "content": maybe(TEXT | st.lists(PART, max_size=3)),
        "name": maybe(TEXT),
        "tool_call_id": maybe(TEXT),
        "tool_calls": maybe(st.lists(st.builds(ToolCall, id=TEXT, function=FUNCTION), max_size=3)),
        "tool_call": maybe(FUNCTION),
    }
)
ANY_MESSAGE = (MESSAGE | MESSAGE.map(lambda message: message | {"role": "tool"})).map(ChatMessage.model_validate)
TOOL = st.builds(
    InlineTool,
    name=TEXT,
    description=maybe(TEXT),
    parameters=maybe(OBJECT),
    strict=maybe(st.booleans()),
    source=st.sampled_from([None, "inline", "organization"]),
    source_code=maybe(TEXT),
    other=maybe(OBJECT),
    preset_name=maybe(TEXT),
) | st.builds(
    LinkedTool,
    id=TEXT.filter(bool),
    source=st.just("organization"),
    name=maybe(TEXT),
    description=maybe(TEXT),
    strict=maybe(st.booleans()),
    parameters=maybe(OBJECT),
)
CONFIG = st.builds(
    ModelConfig,
    name=maybe(TEXT),
    description=maybe(TEXT),
    provider=st.sampled_from(["openai", "anthropic", "mock"]),
    model=TEXT.filter(bool),
    max_tokens=st.integers(-1, 10**6),
    temperature=NUMBER,
    top_p=NUMBER,
    stop=maybe(TEXT | st.lists(TEXT, max_size=3)),
    presence_penalty=NUMBER,
    frequency_penalty=NUMBER,
    other=OBJECT,
    seed=maybe(st.integers()),
    response_format=maybe(
        st.builds(ResponseFormat, type=st.sampled_from(["json_object", "json_schema"]), json_schema=maybe(OBJECT))
    ),
    endpoint=st.sampled_from(["complete", "chat", "edit"]),
    prompt_template=maybe(TEXT),
    chat_template=maybe(st.lists(ANY_MESSAGE, max_size=4)),
    tools=maybe(st.lists(TOOL, max_size=3)),
)
THOROUGH = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def comes_back(config: ModelConfig) -> str:
    """The file of a config: read, it is the same config, labels included; written again, it is the same file."""
    text = serialize(config)
    read = deserialize(text)
    assert canonical_json(read) == canonical_json(config)
    if config.chat_template == []:
        config = config.model_copy(update={"chat_template": read.chat_template})
    assert read == config
    assert serialize(read) == text
    return text


def chat(*messages: ChatMessage, **fields: Any) -> ModelConfig:
    return ModelConfig(model="gpt-4", endpoint="chat", chat_template=list(messages), **fields)


@THOROUGH
@given(CONFIG)
def test_every_config_comes_back_as_the_same_version(config: ModelConfig) -> None:
    comes_back(config)


@THOROUGH
@given(st.lists(ANY_MESSAGE, min_size=1, max_size=4))
def test_every_conversation_comes_back(conversation: list[ChatMessage]) -> None:
    comes_back(chat(*conversation))


PUBLISHED = """---
model: gpt-4-1106-preview
temperature: 0.3
max_tokens: -1
provider: openai
endpoint: chat
tools: [{"name": "weather", "description": "City weather", "parameters": {"type": "object", "properties": \
{"city": {"type": "string"}}, "required": ["city"]}}]
---
<system>
  Answer in the voice of {{ persona }}.
</system>

<user>
  <text>
    Where is this?
  </text>
  <image url="https://example.test/a.png" />
</user>

<assistant>
  <tool name="weather" id="call_1">
    {"city": "Oslo"}
  </tool>
</assistant>

<tool name="weather" id="call_1">
  wet
</tool>
"""


def test_the_documented_example() -> None:
    config = deserialize(PUBLISHED)
    assert config == ModelConfig(
        model="gpt-4-1106-preview",
        temperature=0.3,
        endpoint="chat",
        tools=[
            InlineTool(
                name="weather",
                description="City weather",
                parameters={"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            )
        ],
        chat_template=[
            ChatMessage(role="system", content="Answer in the voice of {{ persona }}."),
            ChatMessage(
                role="user",
                content=[
                    Text(text="Where is this?"),
                    Image(image_url=ImageUrl(url="https://example.test/a.png")),
                ],
            ),
            ChatMessage(
                role="assistant",
                tool_calls=[ToolCall(id="call_1", function=FunctionCall(name="weather", arguments='{"city": "Oslo"}'))],
            ),
            ChatMessage(role="tool", name="weather", tool_call_id="call_1", content="wet"),
        ],
    )
    assert serialize(config) == PUBLISHED


def test_a_completion_is_its_header_and_its_prompt() -> None:
    config = ModelConfig(model="gpt-3.5-turbo-instruct", prompt_template="Question: {{q}}\n  <b>&amp;\nAnswer:")
    assert serialize(config) == (
        "---\nmodel: gpt-3.5-turbo-instruct\ntemperature: 1\nmax_tokens: -1\nprovider: openai\n"
        "endpoint: complete\n---\n"
        "Question: {{q}}\n  <b>&amp;\nAnswer:\n"
    )
    comes_back(config)


def test_a_prompt_whose_white_space_counts_says_so() -> None:
    text = comes_back(ModelConfig(model="m", prompt_template="Answer:\n"))
    assert text.endswith("endpoint: complete\nwhitespace: exact\n---\nAnswer:\n")
    assert comes_back(ModelConfig(model="m", prompt_template="")).endswith("whitespace: exact\n---\n")
    assert comes_back(ModelConfig(model="m")).endswith("endpoint: complete\n---\n")


@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([{"role": "user", "content": "a\n\n  b"}], "<user>\n  a\n\n    b\n</user>\n"),
        ([{"role": "user", "content": ""}], "<user>\n</user>\n"),
        ([{"role": "user", "content": " a\n"}], '<user whitespace="exact"> a\n</user>\n'),
        ([{"role": "user", "content": "a\r\nb"}], '<user whitespace="exact">a\r\nb</user>\n'),
        ([{"role": "user"}], '<user content="null">\n</user>\n'),
        ([{"role": "user", "content": []}], '<user content="[]">\n</user>\n'),
        ([{"role": "user", "content": "x", "name": 'a"b\n'}], '<user name="a&quot;b&#10;">\n  x\n</user>\n'),
        ([{"role": "user", "content": "1 < 2 & <b>"}], "<user>\n  1 < 2 & <b>\n</user>\n"),
        (
            [{"role": "user", "content": "<user> &lt;user> &lt;b"}],
            "<user>\n  &lt;user> &amp;lt;user> &lt;b\n</user>\n",
        ),
        (
            [{"role": "assistant", "content": "Look.", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}],
            '<assistant>\n  Look.\n  <tool name="f" id="c" />\n</assistant>\n',
        ),
        (
            [{"role": "assistant", "content": "", "tool_calls": [{"id": "c", "function": {"name": "f"}}]}],
            '<assistant whitespace="exact"><tool name="f" id="c" />\n</assistant>\n',
        ),
        (
            [{"role": "assistant", "tool_call": {"name": "f", "arguments": "{broken"}}],
            '<assistant>\n  <tool_call name="f">\n    {broken\n  </tool_call>\n</assistant>\n',
        ),
    ],
)
def test_a_message_is_written(messages: list[dict[str, Any]], body: str) -> None:
    text = comes_back(chat(*map(ChatMessage.model_validate, messages)))
    assert text.endswith("endpoint: chat\n---\n" + body)


@pytest.mark.parametrize(
    "body",
    [
        "<user>Hello.\nBye.</user>",
        "\n\n<user>\n\n\tHello.\n\tBye.\n\n</user>\n\n",
        "<user>\r\n    Hello.\r\n    Bye.\r\n</user>\r\n",
        "<user\n  >\nHello.\nBye.\n</user >",
    ],
)
def test_white_space_between_elements_does_not_matter(body: str) -> None:
    assert deserialize(f"---\nmodel: m\nendpoint: chat\n---\n{body}").chat_template == [
        ChatMessage(role="user", content="Hello.\nBye.")
    ]


def test_a_file_with_windows_line_ends_and_yaml_lists_is_read() -> None:
    config = deserialize(
        '\ufeff---\r\nmodel: "gpt-4"  # the good one\r\ntools: []\r\nstop:\r\n  - END\r\n  - no\r\nseed: ~\r\n'
        "other:\r\n  deep: {on: 1e3, since: 2023-11-28}\r\n---\r\n<system>\r\n  Hi & bye.\r\n</system>\r\n"
        "<user>\r\n  <image detail='low' url='https://a.test/?x=1&y=2'/>\r\n</user>"
    )
    assert (config.model, config.tools, config.stop, config.seed) == ("gpt-4", [], ["END", "no"], None)
    assert config.other == {"deep": {"on": 1000.0, "since": "2023-11-28"}}
    assert config.endpoint == "chat", "it begins with a message"
    assert config.chat_template is not None
    assert config.chat_template[0].content == "Hi & bye."
    assert config.chat_template[1].content == [Image(image_url=ImageUrl(url="https://a.test/?x=1&y=2", detail="low"))]


def test_a_file_without_endpoint_and_messages_is_a_completion() -> None:
    config = deserialize("---\nmodel: m\n---\n\nSay {{what}}.\n\n")
    assert (config.endpoint, config.prompt_template) == ("complete", "Say {{what}}.")


def test_open_json_keeps_its_nulls_and_its_numbers() -> None:
    schema: dict[str, Any] = {"default": None, "big": 10**30, "one": 1.0, "key " * 400: {}}
    config = chat(
        ChatMessage(role="user", content="x"),
        other={"none": None, "yes": "no", "1": "1"},
        response_format=ResponseFormat(type="json_schema", json_schema=schema),
    )
    comes_back(config)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", 1, "begin with a line ---"),
        ("model: gpt-4\n", 1, "begin with a line ---"),
        ("---\nmodel: gpt-4\n", 3, "put a line --- after it"),
        ("---\n---\n", 2, "lines like model: gpt-4"),
        ("---\n- a\n---\n", 2, "lines like model: gpt-4"),
        ("---\ntemperature: 1\n---\n", 2, "model: Field required"),
        ('---\nmodel: ""\n---\n', 2, "model: String should have at least 1 character"),
        ("---\nmodel: m\nmax_tokens: -2\n---\n", 3, "max_tokens: Input should be greater than or equal to -1"),
        ("---\nmodel: m\ntemperature: hot\n---\n", 3, "temperature: Input should be a valid number"),
        ("---\nmodel: m\ntemperature: inf\n---\n", 3, "temperature: Input should be a finite number"),
        ("---\nmodel: m\nprovider: Acme Corp\n---\n", 3, "provider: String should match"),
        ("---\nmodel: m\ntools: [{}]\n---\n", 3, "tools.0"),
        ("---\nmodel: m\nmodell: m\n---\n", 3, "there is no key 'modell'"),
        ("---\nmodel: m\nmodel: n\n---\n", 3, "a second time"),
        ("---\nmodel: m\nother: {a: 1, a: 2}\n---\n", 3, "a second time"),
        ("---\nmodel: [\n---\n", 2, "this is not YAML"),
        ("---\nmodel: {{ name }}\n---\n", 2, "cannot be a key"),
        ("---\nmodel: &a m\nname: *a\n---\n", 2, "anchors and aliases"),
        ("---\nmodel: m\nname: *a\n---\n", 3, "anchors and aliases"),
        ("---\nmodel: !!python/name:os.system x\n---\n", 2, "tags"),
        ("---\nmodel: m\n...\n%YAML 1.1\n---\n", 4, "not YAML"),
        (f"---\nmodel: m\nseed: {'9' * 5000}\n---\n", 3, "too many digits"),
        ("---\nmodel: m\nother: {a: 1e999}\n---\n", 3, "too large"),
        ("---\nmodel: m\nwhitespace: some\n---\n", 3, "the only value of whitespace"),
        ("---\nmodel: m\nendpoint: chat\nwhitespace: exact\n---\n", 4, "an attribute of a tag"),
        ("---\nmodel: m\nprompt_template: x\n---\ny\n", 3, "leave one of them"),
        ("---\nmodel: m\nendpoint: chat\n---\nHello\n", 5, "outside the messages"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user>\n</user>\nHello\n", 7, "outside the messages"),
        ("---\nmodel: m\nendpoint: chat\n---\n<text>\n</text>\n", 5, "outside the messages"),
        ("---\nmodel: m\nendpoint: chat\n---\n</user>\n", 5, "outside the messages"),
        ("---\nmodel: m\nendpoint: chat\n---\n\n<user>\n  hi\n", 6, "write </user>"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user>\n<system>\n", 5, "before <system> in line 6"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user>\n<text>\n</user>\n", 6, "write </text>"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user>\n</system>\n", 5, "&lt;/system>"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user>\n<image />\n</user>\n", 6, 'needs url="..."'),
        ("---\nmodel: m\nendpoint: chat\n---\n<user>\n<image url='x'></image>\n</user>\n", 6, "close itself"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user>\n<image url='x' detail='best' />\n</user>\n", 5, "cannot be"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user>\nhi <image url='x' />\n</user>\n", 5, "between <text>"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user>\n<text>a</text>\nb\n</user>\n", 7, "after another element"),
        ("---\nmodel: m\nendpoint: chat\n---\n<assistant>\n<tool name='f'>{}</tool></assistant>", 6, 'needs id="..."'),
        ("---\nmodel: m\nendpoint: chat\n---\n<user id=1>\n</user>\n", 5, 'name="value"'),
        ("---\nmodel: m\nendpoint: chat\n---\n<user nam='x'>\n</user>\n", 5, "it takes content, id, name"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user name='x' name='y'>\n</user>\n", 5, "stands there twice"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user whitespace='kept'>\n</user>\n", 5, "whitespace of <user> is wrong"),
        ("---\nmodel: m\nendpoint: chat\n---\n<user content='null'>\nx\n</user>\n", 5, "is not empty"),
    ],
)
def test_an_error_names_its_line_and_the_remedy(text: str, line: int, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        deserialize(text)
    assert caught.value.message.startswith(f"Line {line} of the .prompt file: ")
    assert says in caught.value.message


def test_characters_that_yaml_does_not_accept_are_refused() -> None:
    with pytest.raises(Invalid, match="write them as"):
        deserialize("---\nmodel: \x00\n---\n")


@pytest.mark.parametrize(
    "content",
    [
        "<document><text>kept</text></document>",
        "<examples>\n<example>\n<user>Hi</user>\n<assistant>Yo</assistant>\n</example>\n</examples>\nGo on.",
        "<p>An <image> is no element, nor is <br/> or <text lang=en>.</p>",
        '<doc title="a > b"><tool name="f" id="1">{}</tool></doc> and <i>more</i>',
        "<a><b></a></b><c>\n<image url='x' />\n</c>",
        "<document>\n<text>one</text>\n</document>\n<document>\n<tool_call />\n</document>",
    ],
)
def test_tags_in_an_element_of_a_message_are_text(content: str) -> None:
    config = deserialize(f"---\nmodel: m\nendpoint: chat\n---\n<user>\n{content}\n</user>\n")
    assert config.chat_template == [ChatMessage(role="user", content=content)]
    comes_back(config)


def test_tags_in_the_elements_of_a_message_are_text() -> None:
    config = deserialize(
        "---\nmodel: m\nendpoint: chat\n---\n"
        "<user><text>a <text>b</text> <image url='x' /></text><image url='y' /></user>\n"
        "<assistant>open <b>\n"
        '<tool name="f" id="1">{"a": "<user>", "b": "</b>"}</tool>'
        '<tool name="f" id="2">{"c": "<image>"}</tool></assistant>\n'
        "<user>Use <b> for bold.</user>\n<assistant>and </b>\n<tool name='f' id='3' /></assistant>\n"
    )
    assert config.chat_template is not None
    asked, answered, then, last = config.chat_template
    assert asked.content == [Text(text="a <text>b</text> <image url='x' />"), Image(image_url=ImageUrl(url="y"))]
    assert answered.content == "open <b>"
    calls = [call.function.arguments for call in answered.tool_calls or ()]
    assert calls == ['{"a": "<user>", "b": "</b>"}', '{"c": "<image>"}']
    assert (then.content, last.content, len(last.tool_calls or ())) == ("Use <b> for bold.", "and </b>", 1)
    comes_back(config)


@pytest.mark.parametrize(
    ("body", "remedy"),
    [
        ("<user>compare <text>a</text> with b</user>", "write &lt; for its <"),
        ("<user>compare <text>a</text></user>", "write &lt; for their <"),
        ("<user>answer as <assistant>, please</user>", "write &lt;assistant>"),
        ("<user><example><user>hi</example></user>", "write &lt;user>"),
        ("<user><text>hello</user>", "write &lt;/user>"),
        ("<user>hello", "write &lt; for its <"),
    ],
)
def test_where_a_tag_may_be_either_the_error_says_how_to_write_it_as_text(body: str, remedy: str) -> None:
    with pytest.raises(Invalid) as caught:
        deserialize(f"---\nmodel: m\nendpoint: chat\n---\n{body}\n")
    assert remedy in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "---\nmodel: m\nother: " + "[" * 100_000 + "\n---\n",
        "---\nmodel: m\nother: {a: " + "[" * 200 + "]" * 200 + "}\n---\n",
        "---\nmodel: m\nother: " + "{a: " * 100_000 + "\n---\n",
        "---\nmodel: m\nother: [" + "[]," * 300_000 + "]\n---\n",
        "---\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)) + "---\n",
        "---\nmodel: m\n" + "? " * 50_000 + "\n---\n",
        "---\nmodel: m\nendpoint: chat\n---\n" + "<user>" * 300_000,
        "---\nmodel: m\nendpoint: chat\n---\n<user " + 'a="' * 300_000,
        "---\nmodel: m\nendpoint: chat\n---\n<user" + " " * 1_000_000,
        "---\nmodel: m\nendpoint: chat\n---\n<user " + "a='' " * 300_000,
        "---\nmodel: m\nendpoint: chat\n---\n<user>" + "&amp;" * 300_000 + "lt;",
        "---\nmodel: m\nendpoint: chat\n---\n<user>" + "<" * 1_000_000,
        "---\nmodel: m\nendpoint: chat\n---\n<user>" + "<a>" * 300_000 + "</b>" * 300_000,
        "---\nmodel: m\nendpoint: chat\n---\n<user>" + "<a><text>" * 200_000 + "</a>" * 200_000,
        "---\nmodel: m\nendpoint: chat\n---\n<user>" + "<a x='\"" * 300_000,
        "---\nmodel: m\nendpoint: chat\n---\n<user>" + "<text x=\"'" * 300_000,
        "---" * 1_000_000,
        "---\n" + "--- \t" * 300_000,
        "---\nmodel: m\n---\n" + " " * MAX_CHARACTERS,
    ],
    ids=range(19),
)
def test_hostile_files_are_refused(text: str) -> None:
    with pytest.raises(Invalid):
        deserialize(text)


@pytest.mark.parametrize(
    "unit", ["&", "&amp;", "<", "<user>", "<b>", "<b></b>", " ", "\n", '"', "\r", "a ", "\t\n", "&lt;"]
)
def test_reading_and_writing_take_time_in_proportion(unit: str) -> None:
    """Long enough that a square of its length would not end while the tests wait."""
    comes_back(chat(ChatMessage(role="user", name=unit * 100_000, content=unit * 300_000)))


CUT = st.tuples(st.integers(0, len(PUBLISHED)), st.integers(0, 9), st.sampled_from(PIECES))


@THOROUGH
@given(st.lists(CUT, min_size=1, max_size=4))
def test_a_file_changed_at_random_is_read_or_refused(cuts: list[tuple[int, int, str]]) -> None:
    text = PUBLISHED
    for start, length, piece in cuts:
        text = text[:start] + piece + text[start + length :]
    with contextlib.suppress(Invalid):
        comes_back(deserialize(text))
