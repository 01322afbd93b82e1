"""An OpenAI and Azure Realtime API that needs no key, with a real WebRTC peer."""
