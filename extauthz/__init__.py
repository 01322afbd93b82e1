"""The ext_authz service: who may call, at which deployment, with which credentials."""
