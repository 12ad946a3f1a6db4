"""A real Llama Stack server for one machine, in front of a scripted model: no download but packages."""
