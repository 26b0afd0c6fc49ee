"""Write the shipped SimBench files: ``python -m grid.datasets.make_simbench_extract`` (needs ``peerwatt[simbench]``).

Writes the network ``simbench_1-LV-semiurb4--2-sw.json``, the profiles its elements use, and the notices beside them.
The profile values are SimBench's, rounded to 32-bit floats, in SimBench's order of rows.
"""

from __future__ import annotations

from pathlib import Path

import pandapower as pp
import pyarrow.parquet as pq

from grid.sources import simbench

LICENCE = """{title}

{body}

Licence of the data: Open Database License (ODbL) 1.0, http://opendatacommons.org/licenses/odbl/1.0/
Rights in individual contents: Database Contents License 1.0, http://opendatacommons.org/licenses/dbcl/1.0/

{notice}
"""

NETWORK_BODY = """Derived from the SimBench grid {code} as delivered by the Python package simbench {version}:
load cases, measurements, profiles, result tables and unused standard types were removed; nothing else was changed.
Made by grid/datasets/make_simbench_extract.py. This derived database is offered under the same licence."""

PROFILES_BODY = """Profiles used by the loads, generators and storages of the SimBench grid {code}, taken from the
Python package simbench {version} and rounded to 32-bit floats; rows in the original order.
Row 0 is the quarter hour that starts at 2015-12-31T23:00Z (2016-01-01 00:00 in Europe/Berlin); the 35,136 rows are
contiguous. Columns NAME_pload and NAME_qload are factors on a load's p_mw and q_mvar, the others factors on p_mw of a
generator or storage. Made by grid/datasets/make_simbench_extract.py. This derived database is offered under the same
licence."""


def write_extract(datasets: Path = simbench.DATASETS) -> None:
    """Write network, profiles and notices into ``datasets``."""
    from importlib.metadata import version

    code = simbench.SHIPPED_CODE
    net = simbench.fetch(code)
    profiles = datasets / simbench.SHIPPED_PROFILES.name
    network = datasets / "networks" / simbench.SHIPPED_NETWORK.name
    network.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(simbench.profile_table(net), profiles, compression="zstd", compression_level=19)
    network.write_text(pp.to_json(simbench.strip(net)), encoding="utf-8")
    for path, body in ((network, NETWORK_BODY), (profiles, PROFILES_BODY)):
        text = LICENCE.format(
            title=path.name, body=body.format(code=code, version=version("simbench")), notice=simbench.NOTICE
        )
        path.with_name(f"{path.stem}.NOTICE.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_extract()
