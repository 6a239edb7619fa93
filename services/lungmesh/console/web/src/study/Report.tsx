import { useEffect, useState } from "preact/hooks";
import { getReportText, reportUrl, type Study } from "../api";
import { useWords } from "../language";
import { Modal } from "../Modal";

type Tab = "text" | "images" | "files";

/** The newest report: its text in the reader's language, key images, and every file. */
export function Report({ study, onClose }: { study: Study; onClose(): void }) {
  const words = useWords();
  const [tab, setTab] = useState<Tab>("text");
  const names = study.report?.artefacts ?? [];
  const edition = study.report?.edition ?? study.row.edition;
  const at = (name: string): string => reportUrl(study.row.study_id, name, { revision: study.row.revision, edition });
  const page = `report.${words.language}.html`;
  const tabs: Tab[] = ["text", "images", "files"];
  return (
    <Modal title={`${words.say("report")} · ${words.say("edition", edition)}`} onClose={onClose} wide>
      {names.length === 0 ? (
        <p>{words.say("report_none")}</p>
      ) : (
        <>
          <div class="tabs" role="tablist">
            {tabs.map((name) => (
              <button
                type="button"
                role="tab"
                key={name}
                aria-selected={tab === name}
                onClick={() => setTab(name)}
              >
                {words.say(`report_${name}`)}
              </button>
            ))}
            {names.includes(page) && (
              <a class="button" href={at(page)} target="_blank" rel="noopener">
                {words.say("open_html")}
              </a>
            )}
            {names.includes("report.pdf") && (
              <a class="button primary" href={at("report.pdf")} target="_blank" rel="noopener">
                {words.say("open_pdf")}
              </a>
            )}
          </div>
          {study.report && study.report.edition < study.row.edition && (
            <p class="warning">{words.say("report_pending")}</p>
          )}
          <div class="sheet" role="tabpanel">
            {tab === "text" && <ReportText url={at(`report.${words.language}.txt`)} />}
            {tab === "images" && (
              <div class="gallery">
                {names
                  .filter((name) => name.endsWith(".png"))
                  .sort(new Intl.Collator("en", { numeric: true }).compare)
                  .map((name) => (
                    <figure key={name}>
                      <img src={at(name)} alt={caption(name)} loading="lazy" />
                      <figcaption>{caption(name)}</figcaption>
                    </figure>
                  ))}
              </div>
            )}
            {tab === "files" && (
              <ul>
                {names.map((name) => (
                  <li key={name}>
                    <a href={at(name)} download={name}>
                      {name}
                    </a>
                  </li>
                ))}
              </ul>
            )}
          </div>
        </>
      )}
      <form method="dialog" class="buttons">
        <button>{words.say("close")}</button>
      </form>
    </Modal>
  );
}

const caption = (name: string): string => name.replace(/^key_|\.png$/g, "").replaceAll("_", " · ");

function ReportText({ url }: { url: string }) {
  const words = useWords();
  const [text, setText] = useState(words.say("loading"));
  useEffect(() => {
    getReportText(url).then(setText, (error: unknown) => setText(words.fault(error)));
  }, [url]);
  return <pre tabIndex={0}>{text}</pre>;
}
