"""What of a service can be refused before it makes a folder, a key or a guardian: a refused start leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from peerwatt.devices.opening import check_place, places
from peerwatt.live.listening import bound_socket
from peerwatt.live.options import PPM

if TYPE_CHECKING:
    import socket

    from hardware.mqtt import BrokerSettings
    from peerwatt.live.options import Options
    from peerwatt.system import System


def refused_or_ours(options: Options, system: System) -> socket.socket:
    """The address to listen on, which is ours from now on.

    Raises
    ------
    PeerwattError
        Of the address, TLS or the port; of the broker's address; of the guardian's site file; of a device that cannot
        be had at this speed, or without a guardian.
    """
    from peerwatt.api.binding import check_address

    check_address(
        options.host,
        certificate=options.tls_cert,
        private_key=options.tls_key,
        behind_proxy=options.behind_proxy,
    )
    if options.mqtt is not None:
        broker_of(options)
    if options.guardian_site is not None:
        from controllers.guardian.settings import load_site

        load_site(options.guardian_site)
    guarded = options.guardian is not None or options.guardian_site is not None
    for place in places(system, options.factor_ppm / PPM):
        if place.plant.timing != "zero-latency":  # models stand for those in a live market
            check_place(place, guarded=guarded)
    return bound_socket(options.host, options.port)


def broker_of(options: Options) -> BrokerSettings:
    """The broker of a service that has one; ServiceError if its address is wrong, or not safe."""
    from hardware.mqtt import BrokerSettings, TlsFiles

    assert options.mqtt is not None, "asked for where there is a broker"
    return BrokerSettings.from_url(
        options.mqtt,
        password=options.mqtt_password,
        tls=None if options.mqtt_ca is None else TlsFiles(ca=options.mqtt_ca),
        plain=options.mqtt_plain,
    )
