-- Orthanc: a copy of each radiograph that came goes to the folder that the worklist looks into.
-- Written under a hidden name first, which the worklist passes over, then renamed: it never
-- meets half a film.

local INBOX = '/srv/inbox/'
local RADIOGRAPHS = { CR = true, DX = true, DR = true }
local OURS = 'cxr_core' -- what our own answers say of their maker: no answer comes back as a film

function OnStoredInstance(instance, tags, metadata, origin)
  if not RADIOGRAPHS[tags['Modality']] or tags['Manufacturer'] == OURS then return end
  local part, film = INBOX .. '.' .. instance, INBOX .. instance .. '.dcm'
  local file = assert(io.open(part, 'wb'))
  assert(file:write(RestApiGet('/instances/' .. instance .. '/file')))
  assert(file:close())
  assert(os.rename(part, film))
end
