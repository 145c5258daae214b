-- Argo CD's health of a FailoverPolicy.

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
