-- Generated from config/argocd/source/ by `make manifests`.
-- Argo CD's health of a SendingBackend. One that cannot deliver is Healthy, with a message that says so: its routes leave by
-- another, and an outage at a provider is no fault of the deployment. When no backend is left, the MailRoute is Degraded.

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
  return health("Progressing", ready.message or "Waiting for the operator to say whether mail can leave this way")
end

local message = tostring(obj.status.health)
if obj.status.since ~= nil then
  message = message .. " since " .. obj.status.since
end
if obj.status.health ~= "Healthy" then
  message = message .. ": " .. tostring(obj.status.reason)
  if obj.status.message ~= nil then
    message = message .. ", " .. obj.status.message
  end
end
if obj.spec.suspended then
  return health("Suspended", "spec.suspended: no new mail leaves this way. " .. message)
end
return health("Healthy", message)
