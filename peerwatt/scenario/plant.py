"""What stands for a building's battery and PV: models on arrays, or devices. No part of a run's identity."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from peerwatt.scenario.base import Model, NotNegative, Share

PlantWord = Literal["model", "emulated"]
Part = Literal["battery", "pv"]

MIN_SCALE, MAX_SCALE = 1e-6, 1e6


class DevicePlant(Model):
    """Devices for some assets of a building, and how their readings count for it (docs/plants.md).

    Used by paced and live runs; a simulation in virtual time takes models.
    """

    kind: Literal["model", "emulated", "real"] = Field(
        "emulated", description="`emulated`: a device that peerwatt emulates; `real`: one that a guardian owns"
    )
    profile: Literal["zero-latency", "sunspec"] | None = Field(
        None,
        description="`zero-latency`: no clock of its own, same books as the model; `sunspec`: a device in real time; "
        "default: zero-latency for emulated, sunspec for real",
    )
    scale: Annotated[float, Field(ge=MIN_SCALE, le=MAX_SCALE, allow_inf_nan=False)] = Field(
        1.0, description="building over device: powers and energies of the device count so many times"
    )
    device: str | None = Field(None, description="id of the device at the guardian; needed for real")
    address: str | None = Field(
        None,
        description="of an emulator elsewhere, tcp://host:port; for emulated sunspec; it has to say that it is one",
    )
    covers: tuple[Part, ...] = Field(
        (), description="assets that it stands for; default: all of them, of a guardian's device the battery, else PV"
    )
    settle_s: NotNegative = Field(
        5.0, description="time that a device may take to follow a set-point [s]; for the stated bound of deviation"
    )
    accuracy: Share = Field(0.02, description="share by which its metered energy may differ; for the stated bound")

    @model_validator(mode="after")
    def _fits_together(self) -> DevicePlant:
        if self.kind == "real" and self.profile == "zero-latency":
            raise ValueError("a real device has a clock of its own: use profile: sunspec")
        if self.kind == "real" and self.device is None:
            raise ValueError("a real device is not named: add `device`, its id at the guardian")
        if self.device is not None and self.profile == "zero-latency":
            raise ValueError("a zero-latency device is started by the run itself: leave `device` out")
        if self.address is not None and (self.kind != "emulated" or self.device is not None):
            raise ValueError(
                "a real device is not written to at an address: use `device` alone, its id at the guardian"
            )
        if self.address is not None and self.profile == "zero-latency":
            raise ValueError("an emulator elsewhere has a clock of its own: use profile: sunspec")
        if len(set(self.covers)) < len(self.covers):
            raise ValueError("`covers` names an asset twice: name each once")
        if (self.device or self.address) is not None and len(self.covers) > 1:
            raise ValueError("one device stands for the battery or for the PV, not for both: name one in `covers`")
        return self

    @property
    def timing(self) -> Literal["zero-latency", "sunspec"]:
        """The profile, with its default filled in."""
        if self.profile is not None:
            return self.profile
        elsewhere = self.device is not None or self.address is not None
        return "sunspec" if self.kind == "real" or elsewhere else "zero-latency"


def _which(value: Any) -> str:
    return "as:word" if isinstance(value, str) else "as:plant"


Plant = Annotated[
    Annotated[PlantWord, Tag("as:word")] | Annotated[DevicePlant, Tag("as:plant")],
    Discriminator(_which),
]
"""A word, or the details of the devices."""


def device_plant(plant: PlantWord | DevicePlant) -> DevicePlant | None:
    """The devices that stand for a building's assets; None for models."""
    if isinstance(plant, DevicePlant):
        return None if plant.kind == "model" else plant
    return DevicePlant() if plant == "emulated" else None
