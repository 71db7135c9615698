"""Facts of a JSON file as frozen values: absent fields stay absent, and unknown fields survive a load and a save."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mgc.configuration import JsonObject


class Facts(BaseModel):
    """Facts that another version of mgc may have written, with fewer or more fields.

    `to_json(from_json(values))` equals `values`: a field that was absent is not written, and a field that this version
    does not know is kept.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def from_json(cls, values: object, within: str | None = None) -> Self:
        """Read facts from the values of `to_json`.

        Args:
            values: values from the JSON.
            within: name of the field that holds them, for messages.

        Raises:
            ValueError: a field does not have the type that this version expects; the message names it.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in (within, *first["loc"]) if part is not None)
            raise ValueError(f"{name}: {first['msg']}" if name else first["msg"]) from None

    def to_json(self) -> JsonObject:
        """Return JSON-ready values of the fields that were read or set."""
        return self.model_dump(mode="json", exclude_unset=True)

    def updated(self, **fields: object) -> Self:
        """Return a copy with some fields replaced.

        Raises:
            TypeError: there is no such field.
            ValueError: a value does not fit its field.
        """
        unknown = fields.keys() - type(self).model_fields.keys()
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {', '.join(sorted(unknown))}")
        present = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self).from_json(present | fields)
