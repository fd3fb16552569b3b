// A Flamenco job type: a manifest of lines, shared out over the workers of a render farm.
//
// Put this file into the Manager's `scripts` folder. Each task takes one share of the manifest with
// `blender --command lipsync --batch … --shard i/n`; a last task tells when all are done. What is up
// to date is skipped, so a job that is sent again only does what changed.

const JOB_TYPE = {
    label: "Lip-Sync Lines",
    description: "Let heads speak every line of a CSV manifest or a folder of sounds",
    settings: [
        { key: "manifest", type: "string", subtype: "file_path", required: true,
          description: "CSV manifest, or a folder of sound files, as the workers see it" },
        { key: "output", type: "string", subtype: "dir_path", required: true,
          description: "Folder for the results, as the workers see it" },
        { key: "format", type: "string", default: "glb",
          choices: ["glb", "gltf", "fbx", "usdc", "abc", "csv", "json", "blend"],
          description: "Form of each result" },
        { key: "head", type: "string", default: "demo",
          description: "Head of lines that name none: a .blend file, or “demo”" },
        { key: "style", type: "string", default: "",
          description: "Way of speaking of lines that name none" },
        { key: "shares", type: "int32", default: 4, propargs: { min: 1, max: 1000 },
          description: "Number of tasks the lines are shared out to" },
    ],
};

function compileJob(job) {
    const settings = job.settings;
    const last = author.Task("done", "misc");
    last.addCommand(author.Command("echo", {
        message: "Every line is done; the reports lie in " + settings.output,
    }));
    for (let share = 1; share <= settings.shares; share++) {
        const name = "lines " + share + " of " + settings.shares;
        const task = author.Task(name, "blender");
        task.addCommand(author.Command("exec", {
            exe: "{blender}",
            args: lipsyncArguments(settings, share + "/" + settings.shares),
        }));
        last.addDependency(task);
        job.addTask(task);
    }
    job.addTask(last);
}

function lipsyncArguments(settings, shard) {
    const args = [
        "--command", "lipsync",
        "--batch", settings.manifest,
        "--out", settings.output,
        "--format", settings.format,
        "--head", settings.head,
        "--shard", shard,
    ];
    return settings.style ? args.concat(["--style", settings.style]) : args;
}
