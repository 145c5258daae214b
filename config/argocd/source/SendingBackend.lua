-- Argo CD's health of a SendingBackend. One that cannot deliver is Healthy, with a message that says so: its routes leave by
-- another, and an outage at a provider is no fault of the deployment. When no backend is left, the MailRoute is Degraded.

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
