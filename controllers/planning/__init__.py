"""Plans that look ahead: exact ones of a battery (`battery_plan`), with the value of stored energy."""

from controllers.planning.battery_plan import BatteryPlans, StorageValues, Stores, Tariff, battery_plans

__all__ = ["BatteryPlans", "StorageValues", "Stores", "Tariff", "battery_plans"]
