"""A log is updated by the rules it is posted by."""

from services.gateway.schemas.logs import LogRequest, UpdateLogRequest


def test_every_field_of_an_update_has_the_rules_of_the_same_field_of_a_log() -> None:
    for name, field in UpdateLogRequest.model_fields.items():
        posted = LogRequest.model_fields[name]
        assert (field.annotation, field.metadata) == (posted.annotation, posted.metadata), name
