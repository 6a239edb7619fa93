import { useState } from "preact/hooks";
import { changePassword } from "./api";
import { useWords } from "./language";
import { Modal } from "./Modal";

/** Gives the signed-in user another password. */
export function Password({ onClose }: { onClose(): void }) {
  const words = useWords();
  const [old, setOld] = useState("");
  const [fresh, setFresh] = useState("");
  const [fault, setFault] = useState("");
  const send = async (event: Event): Promise<void> => {
    event.preventDefault();
    try {
      await changePassword(old, fresh);
      onClose();
    } catch (error) {
      setFault(words.fault(error));
    }
  };
  const field = (
    label: string,
    complete: "current-password" | "new-password",
    value: string,
    set: (text: string) => void,
  ) => (
    <label>
      {label}
      <input
        type="password"
        required
        autocomplete={complete}
        value={value}
        onInput={(event) => set(event.currentTarget.value)}
      />
    </label>
  );
  return (
    <Modal title={words.say("change_password")} onClose={onClose}>
      <form onSubmit={(event) => void send(event)}>
        {field(words.say("password"), "current-password", old, setOld)}
        {field(words.say("new_password"), "new-password", fresh, setFresh)}
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
