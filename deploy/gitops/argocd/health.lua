-- The health of an Agent, a Board or an AgentGateway, for Argo CD. tests/gitops runs it over every state of the three kinds.
local health = { status = "Progressing", message = "Muster has not looked at this version of the object yet" }
local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end
local ready = conditions.Ready
if obj.metadata.deletionTimestamp ~= nil then
  health.message = ready and ready.message or "the object is being deleted"
  return health
end
if ready == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end
health.message = ready.message
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  health.status = "Degraded"
  health.message = conditions.Stalled.message
elseif ready.status == "True" and conditions.Reconciling == nil then
  health.status = "Healthy"
  if obj.spec.suspend == true then
    health.status = "Suspended"
  end
end
return health
