-- Generated from config/argocd/source/ by `make manifests`.
-- Argo CD's health of a FailoverPolicy.

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

if ready.status ~= "True" then
  return health("Progressing", ready.message or "Waiting for the operator to accept it")
end

local routes = obj.status.routes or {}
if #routes == 0 then
  return health("Healthy", "No route uses it")
end
local message = "Used by " .. table.concat(routes, ", ")
local count = obj.status.routeCount or #routes
if count > #routes then
  message = message .. " and " .. tostring(count - #routes) .. " more"
end
return health("Healthy", message)
