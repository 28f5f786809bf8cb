"""Request bodies: field tables that validate them and describe them in the OpenAPI document."""
