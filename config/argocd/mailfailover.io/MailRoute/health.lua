-- Generated from config/argocd/source/ by `make manifests`.
-- Argo CD's health of a MailRoute. Only basic functions and `table` are at hand: Argo CD opens no more unless it is told to.

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

-- `ses-eu`, or `ses-eu (60 %), relay-a (40 %)`.
local function carriers()
  local names = {}
  local active = obj.status.active or {}
  for _, one in ipairs(active) do
    local name = tostring(one.backend)
    if #active > 1 then
      name = name .. " (" .. tostring(one.percent) .. " %)"
    end
    table.insert(names, name)
  end
  return table.concat(names, ", ")
end

local outputs = condition("OutputsApplied")
local said = obj.status.message or ready.message or ""

if obj.status.state == "NoneHealthy" or ready.reason == "NoneHealthy" then
  return health("Degraded", "No mail can be sent: " .. said)
end
-- Mail is held on a backend that cannot deliver. For the minute in which a standby may answer, the reason is another one.
if ready.reason == "HeldOnDeadBackend" then
  return health("Degraded", said)
end
-- The output belongs to somebody else, or the API server does not accept it; what failed for the moment is tried again.
if outputs.status == "False" and outputs.reason ~= "WriteFailed" then
  return health("Degraded", outputs.message)
end
if ready.status ~= "True" then
  return health("Progressing", ready.message or "Waiting for the operator to say whether mail can leave")
end

local message = "Mail leaves by " .. carriers()
if condition("FailedOver").status == "True" then
  message = "Failed over: mail leaves by " .. carriers()
end
if obj.status.since ~= nil then
  message = message .. " since " .. obj.status.since
end
if condition("FailedOver").status == "True" then
  message = message .. " (" .. tostring(condition("FailedOver").reason) .. ")"
end
if condition("Redundant").status == "False" then
  message = message .. "; no other backend could take over"
end
if obj.status.unplacedPercent ~= nil then
  message = message .. "; " .. tostring(obj.status.unplacedPercent) .. " % of the mail has nowhere to go"
end

if obj.status.state == "Paused" then
  local pause = "Paused until somebody resumes it: nothing moves. "
  if obj.status.pause ~= nil and obj.status.pause["until"] ~= nil then
    pause = "Paused until " .. obj.status.pause["until"] .. ": nothing moves. "
  end
  return health("Suspended", pause .. message)
end
return health("Healthy", message)
