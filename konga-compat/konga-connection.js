// The connection that Konga begins with (its docs/SEED_DEFAULT_DATA.md).
module.exports = [
  {
    "name": "Silverback",
    "type": "default",
    "kong_admin_url": "http://silverback:8001",
    "health_checks": false
  }
]
