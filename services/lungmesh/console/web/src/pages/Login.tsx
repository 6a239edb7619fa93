import { useState } from "preact/hooks";
import { login } from "../api";
import icon from "../icon.svg";
import { useWords } from "../language";

export function Login({ oidc, onDone }: { oidc: boolean; onDone(): void }) {
  const words = useWords();
  const [user, setUser] = useState("");
  const [password, setPassword] = useState("");
  const [fault, setFault] = useState("");
  const [busy, setBusy] = useState(false);
  const send = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    try {
      await login(user, password);
      onDone();
    } catch (error) {
      setFault(words.fault(error));
      setBusy(false);
    }
  };
  return (
    <main id="content" class="login">
      <form onSubmit={(event) => void send(event)}>
        <img src={icon} alt="" width={56} height={56} />
        <h1>LungMesh</h1>
        <label>
          {words.say("user")}
          <input
            name="user"
            autocomplete="username"
            required
            autofocus
            value={user}
            onInput={(event) => setUser(event.currentTarget.value)}
          />
        </label>
        <label>
          {words.say("password")}
          <input
            name="password"
            type="password"
            autocomplete="current-password"
            required
            value={password}
            onInput={(event) => setPassword(event.currentTarget.value)}
          />
        </label>
        {fault && (
          <p class="fault" role="alert">
            {fault}
          </p>
        )}
        <button class="primary" disabled={busy}>
          {words.say("sign_in")}
        </button>
        {oidc && <a href="/auth/oidc">{words.say("hospital_login")}</a>}
        
      </form>
    </main>
  );
}
