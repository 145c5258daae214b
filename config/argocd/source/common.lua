-- Beginning of the health script of every kind. The rest of a script uses `condition`, `health` and `ready`.

local function condition(wanted)
  for _, one in ipairs(obj.status.conditions) do
    if one.type == wanted then
      return one
    end
  end
  return {}
end

local function health(status, message)
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "Pending deletion")
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation or obj.status.conditions == nil then
  return health("Progressing", "Waiting for the operator to look at this version")
end

local ready = condition("Ready")
local stalled = condition("Stalled")

if stalled.status == "True" then
  return health("Degraded", stalled.message)
end
