import { useEffect, useState } from "preact/hooks";
import { getUsers, putUser, type User } from "../api";
import { useWords } from "../language";
import { Modal } from "../Modal";

const roles = ["radiologist", "nurse", "operator", "administrator"];
const nobody: User = { name: "", roles: ["radiologist"], tenants: [], disabled: false, local: true };

export function Users({ tenants }: { tenants: string[] }) {
  const words = useWords();
  const [users, setUsers] = useState<User[]>([]);
  const [open, setOpen] = useState<User | null>(null);
  const [fault, setFault] = useState("");
  const read = (): Promise<void> =>
    getUsers().then(
      (answer) => setUsers(answer.users),
      (error: unknown) => setFault(words.fault(error)),
    );
  useEffect(() => void read(), []);
  return (
    <main id="content" class="operations">
      <h1>{words.say("users")}</h1>
      {fault && (
        <p class="fault" role="alert">
          {fault}
        </p>
      )}
      <div class="scroller">
        <table>
          <thead>
            <tr>
              <th scope="col">{words.say("user")}</th>
              <th scope="col">{words.say("roles")}</th>
              <th scope="col">{words.say("tenant")}</th>
              <th scope="col">{words.say("outcome")}</th>
              <th />
            </tr>
          </thead>
          <tbody>
            {users.map((user) => (
              <tr key={user.name}>
                <td>{user.name}</td>
                <td>{user.roles.map((role) => words.term(role)).join(", ")}</td>
                <td>{user.tenants.join(", ")}</td>
                <td>{words.say(user.disabled ? "disabled" : "enabled")}</td>
                <td>
                  <button type="button" onClick={() => setOpen(user)}>
                    {words.say("change_user")}
                  </button>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p>
        <button type="button" class="primary" onClick={() => setOpen({ ...nobody, tenants })}>
          {words.say("new_user")}
        </button>
      </p>
      {open && (
        <Edit
          user={open}
          onClose={() => setOpen(null)}
          onDone={() => {
            setOpen(null);
            void read();
          }}
        />
      )}
    </main>
  );
}

function Edit({ user, onClose, onDone }: { user: User; onClose(): void; onDone(): void }) {
  const words = useWords();
  const [draft, setDraft] = useState(user);
  const [tenants, setTenants] = useState(user.tenants.join(" "));
  const [password, setPassword] = useState("");
  const [fault, setFault] = useState("");
  const send = async (event: Event): Promise<void> => {
    event.preventDefault();
    try {
      const { roles, disabled } = draft;
      await putUser(draft.name, {
        roles,
        tenants: tenants.split(/[\s,]+/).filter(Boolean),
        disabled,
        password: password || null,
      });
      onDone();
    } catch (error) {
      setFault(words.fault(error));
    }
  };
  const toggle = (role: string): string[] =>
    draft.roles.includes(role) ? draft.roles.filter((one) => one !== role) : [...draft.roles, role];
  return (
    <Modal title={user.name || words.say("new_user")} onClose={onClose}>
      <form onSubmit={(event) => void send(event)}>
        {!user.name && (
          <label>
            {words.say("user")}
            <input
              required
              pattern="[A-Za-z0-9_.@\-]{1,128}"
              value={draft.name}
              onInput={(event) => setDraft({ ...draft, name: event.currentTarget.value })}
            />
          </label>
        )}
        <fieldset>
          <legend>{words.say("roles")}</legend>
          {roles.map((role) => (
            <label key={role} class="check">
              <input
                type="checkbox"
                checked={draft.roles.includes(role)}
                onChange={() => setDraft({ ...draft, roles: toggle(role) })}
              />
              {words.term(role)}
            </label>
          ))}
        </fieldset>
        <label>
          {words.say("tenant")}
          <input required value={tenants} onInput={(event) => setTenants(event.currentTarget.value)} />
        </label>
        {user.local && (
          <label>
            {words.say(user.name ? "new_password_optional" : "password")}
            <input
              type="password"
              autocomplete="new-password"
              required={!user.name}
              value={password}
              onInput={(event) => setPassword(event.currentTarget.value)}
            />
          </label>
        )}
        <label class="check">
          <input
            type="checkbox"
            checked={draft.disabled}
            onChange={() => setDraft({ ...draft, disabled: !draft.disabled })}
          />
          {words.say("disabled")}
        </label>
        {fault && (
          <p class="fault" role="alert">
            {fault}
          </p>
        )}
        <p class="buttons">
          <button type="button" onClick={onClose}>
            {words.say("cancel")}
          </button>
          <button class="primary">{words.say("save")}</button>
        </p>
      </form>
    </Modal>
  );
}
