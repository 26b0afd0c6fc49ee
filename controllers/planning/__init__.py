"""Plans that look ahead: exact ones of a battery (`battery_plan`), with the value of stored energy, and of whole
buildings (`building_plan`) by linear programs.
"""

from controllers.planning.battery_plan import BatteryPlans, StorageValues, Stores, Tariff, battery_plans
from controllers.planning.building_plan import building_plans

__all__ = ["BatteryPlans", "StorageValues", "Stores", "Tariff", "battery_plans", "building_plans"]
