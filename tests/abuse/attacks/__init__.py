"""What is tried against a running stack. The tests assert what it may cost; `python -m bench.abuse` prints it.

To add one: write a function of a `Target` that returns when the attack is over, and name it in `ATTACKS`.
"""

from collections.abc import Callable, Mapping

from tests.abuse.attacks import bodies, connections, outbound, streams, templates, validation_errors
from tests.abuse.attacks.target import Target

ATTACKS: Mapping[str, Callable[[Target], object]] = {
    "a header of 64 MiB": connections.send_endless_header,
    "1,500 half-sent requests": connections.send_half_requests,
    "20,000 pipelined requests": connections.pipeline_requests,
    "responses that are not read": connections.leave_responses_unread,
    "bodies of empty arrays": bodies.send_empty_arrays,
    "bodies of many objects": bodies.send_objects,
    "arrays of 5,000 logs": bodies.send_arrays_of_logs,
    "uploads that are cut off": bodies.cut_uploads_off,
    "idle uploads": bodies.leave_uploads_idle,
    "bodies full of errors": validation_errors.send_errors,
    "templates that grow": templates.send_growing_templates,
    "150 streams that nobody reads": streams.leave_streams_unread,
    "1,100 slow calls": streams.send_crowd,
    "tools and images at hosts that hang": outbound.call_hosts_that_hang,
}
"""By what is sent."""
